"""Starting, cancelling and restarting runs, and how a worker's run comes to its end."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F, QuerySet
from django.urls import reverse

from accounts import audit, outbox
from accounts.models import User
from accounts.notifications import notify
from datanets.models import Version
from modelfactory import parents, selectors
from modelfactory.errors import RunError
from modelfactory.limits import RUNS_PER_BUILDER
from modelfactory.models import Run, RunEvent
from modelfactory.services.drafts import require_draft
from modelfactory.training.job import Event

TASK = "modelfactory.tasks.execute_run"
QUEUE = "train"
RESTARTABLE = (Run.State.FAILED, Run.State.CANCELLED)


def start_run(*, run: Run, acting_user: User, at: datetime) -> Run:
    """DRAFT → QUEUED, if nothing speaks against it.

    Raises PermissionDenied, RecipeError, and RunError with the reason and the next step
    (STATE, VERSION, BASE, LICENCE, RECORDS, CUTOFF, PARENT, QUOTA).
    """
    require_draft(run, acting_user)
    review = selectors.review(run, acting_user, at=at)
    if review.refusals:
        raise review.refusals[0]
    with transaction.atomic():
        require_quota(acting_user)
        moved = Run.objects.filter(pk=run.pk, state=Run.State.DRAFT).update(
            state=Run.State.QUEUED, queued_at=at, estimate=review.to_json()
        )
        if not moved:
            raise RunError("STATE", "This run was started already.")
        enqueue(run.pk, at)
        audit.record(
            actor=acting_user,
            verb="run.started",
            target=run,
            data={"recipe": run.recipe, "versions": [str(v.pk) for v in run.versions.all()]},
            at=at,
        )
    run.refresh_from_db()
    return run


def cancel_run(*, run: Run, acting_user: User, at: datetime) -> Run:
    """QUEUED → CANCELLED at once; a RUNNING one stops at its next step, keeping a checkpoint."""
    _require_builder(run, acting_user)
    with transaction.atomic():
        waiting = Run.objects.filter(pk=run.pk, state=Run.State.QUEUED).update(
            state=Run.State.CANCELLED, finished_at=at
        )
        running = Run.objects.filter(pk=run.pk, state=Run.State.RUNNING).update(
            cancel_requested=True
        )
        if not waiting and not running:
            raise RunError("STATE", "Only a run that waits or works can be cancelled.")
        audit.record(actor=acting_user, verb="run.cancelled", target=run, at=at)
    run.refresh_from_db()
    return run


def restart_run(*, run: Run, acting_user: User, at: datetime) -> Run:
    """FAILED or CANCELLED → QUEUED. It goes on from its checkpoint where one stands.

    Raises PermissionDenied, RunError (STATE, BASE, VERSION, PARENT, QUOTA).
    """
    _require_builder(run, acting_user)
    if run.base_model is None or not run.base_model.is_ready:
        raise RunError("BASE", "The base model does not load any more.")
    require_versions(run)
    require_parents(run)
    with transaction.atomic():
        require_quota(acting_user)
        moved = Run.objects.filter(pk=run.pk, state__in=RESTARTABLE).update(
            state=Run.State.QUEUED,
            queued_at=at,
            finished_at=None,
            attempts=0,
            cancel_requested=False,
            failure_reason="",
        )
        if not moved:
            raise RunError("STATE", "Only a run that failed or was cancelled starts again.")
        enqueue(run.pk, at)
        audit.record(actor=acting_user, verb="run.restarted", target=run, at=at)
    run.refresh_from_db()
    return run


def require_versions(run: Run) -> None:
    """Raises RunError (VERSION) where its builder may not train on all its versions now."""
    chosen = run.versions.select_related("datanet")
    usable = set(Version.objects.usable_by(run.builder).filter(pk__in=chosen).values_list("pk"))
    closed = sorted({v.datanet.name for v in chosen if (v.pk,) not in usable})
    if closed:
        raise RunError(
            "VERSION",
            f"You may not train on {', '.join(closed)} any more. Make a new run without it.",
            url=reverse("modelfactory:wizard"),
        )


def require_parents(run: Run) -> None:
    """Raises RunError (PARENT) where it cannot start from its parents any more."""
    refusals = parents.refusals(run)
    if refusals:
        raise refusals[0]


def begin(*, run: Run, device: str, dtype: str, at: datetime) -> None:
    """A worker has it: say where it runs."""
    Run.objects.filter(pk=run.pk).update(
        device=device, dtype=dtype, started_at=run.started_at or at, finished_at=None
    )


def record_events(*, run_id: UUID, events: Sequence[Event]) -> None:
    """Keep what the training told; an event that is here already stays as it is."""
    if not events:
        return
    RunEvent.objects.bulk_create(
        [
            RunEvent(
                run_id=run_id,
                sequence=event.sequence,
                kind=event.kind,
                step=event.step,
                data={k: v for k, v in event.data.items() if k != "trace"},
                at=datetime.fromisoformat(event.at),
            )
            for event in events
        ],
        ignore_conflicts=True,
    )
    steps = next((e.data["steps"] for e in reversed(events) if "steps" in e.data), None)
    fresh: dict[str, int] = {"step": events[-1].step}
    Run.objects.filter(pk=run_id).update(**fresh if steps is None else {**fresh, "steps": steps})


def give_back(*, run_id: UUID, owner: str, at: datetime) -> None:
    """RUNNING → QUEUED without counting the attempt: the worker itself is stopping."""
    with transaction.atomic():
        moved = Run.objects.filter(pk=run_id, lease_owner=owner, state=Run.State.RUNNING).update(
            state=Run.State.QUEUED,
            attempts=F("attempts") - 1,
            lease_owner="",
            lease_expires_at=None,
        )
        if moved:
            enqueue(run_id, at)


def crash(*, run_id: UUID, owner: str, reason: str, at: datetime) -> None:
    """The training process died: once more from the checkpoint, until the attempts are spent."""
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run_id)
        if run.lease_owner != owner or run.state != Run.State.RUNNING:
            return
        if run.attempts < settings.WORK_ATTEMPTS:
            requeue(run_id, at)
        else:
            fail(run_id, reason, at, owner=owner)


def requeue(pk: UUID, at: datetime) -> None:
    """The sweeper's way back; a run that was to be cancelled is, now that nobody works on it."""
    if Run.objects.filter(pk=pk, cancel_requested=True).exists():
        cancelled(run_id=pk, at=at)
        return
    moved = Run.objects.filter(pk=pk, state=Run.State.RUNNING).update(
        state=Run.State.QUEUED, lease_owner="", lease_expires_at=None
    )
    if moved:
        enqueue(pk, at)


def cancelled(*, run_id: UUID, at: datetime, owner: str | None = None) -> None:
    """→ CANCELLED, unless `owner` is named and has lost the lease."""
    _held(run_id, owner).filter(state__in=[Run.State.RUNNING, Run.State.QUEUED]).update(
        state=Run.State.CANCELLED,
        finished_at=at,
        cancel_requested=False,
        lease_owner="",
        lease_expires_at=None,
    )


def fail(pk: UUID, reason: str, at: datetime, owner: str | None = None) -> None:
    """→ FAILED with the reason, unless `owner` is named and has lost the lease. The builder is
    told."""
    with transaction.atomic():
        moved = (
            _held(pk, owner)
            .exclude(state__in=[Run.State.SUCCEEDED, Run.State.CANCELLED])
            .update(
                state=Run.State.FAILED,
                failure_reason=reason,
                finished_at=at,
                lease_owner="",
                lease_expires_at=None,
            )
        )
        if not moved:
            return
        run = Run.objects.select_related("builder").get(pk=pk)
        audit.record(actor=None, verb="run.failed", target=run, data={"reason": reason}, at=at)
        notify(
            user=run.builder,
            kind="modelfactory.run_failed",
            title=f"The run {run.name} failed",
            body=reason,
            url=run.get_absolute_url(),
            at=at,
        )


def _held(pk: UUID, owner: str | None) -> QuerySet[Run]:
    """The run, where `owner` holds its lease; no owner stands for the sweeper."""
    rows = Run.objects.filter(pk=pk)
    return rows if owner is None else rows.filter(lease_owner=owner)


def enqueue(pk: UUID, at: datetime) -> None:
    outbox.enqueue(task=TASK, args=[str(pk)], queue=QUEUE, at=at)


def _require_builder(run: Run, acting_user: User) -> None:
    if run.builder_id != acting_user.pk and not acting_user.is_staff:
        raise PermissionDenied("Only the builder of this run can do this.")


def require_quota(acting_user: User) -> None:
    """Lock the builder's row, so that two starts cannot both take the last place."""
    User.objects.select_for_update().get(pk=acting_user.pk)
    active = Run.objects.filter(
        builder=acting_user, state__in=[Run.State.QUEUED, Run.State.RUNNING]
    ).count()
    if active >= RUNS_PER_BUILDER:
        raise RunError(
            "QUOTA",
            f"You have {active} runs waiting or working, which is the most. "
            "Wait for one, or cancel one.",
            url=reverse("modelfactory:runs"),
        )
