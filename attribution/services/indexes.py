"""An index from the wish to the manifest. The worker claims it; nothing here computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q

from accounts import audit, events, leases, outbox
from accounts.models import User
from attribution import learnt, part_files
from attribution.models import Attribution, Index, IndexPart, LogLeaf, PastIndex
from attribution.services import log, receipts
from attribution.translog import canonical
from datanets.models import VersionRecord
from modelfactory.models import Model

STATEMENT = "openledger-index-root/1"
BUILD_TASK = "attribution.tasks.build_index"
PART_TASK = "attribution.tasks.build_index_part"
REVISE_TASK = "attribution.tasks.revise_indexes"
QUEUE = "attribute"
TURN = timedelta(seconds=5)
# An index whose files the store lost sooner is not built again by itself.
KEPT_AT_LEAST = timedelta(hours=1)
IN_WORK = [state for state in Index.State if state.is_moving]
# What is being built may have read a record already.
READ = [Index.State.BUILDING, Index.State.SPREAD, Index.State.GATHERED, Index.State.MERGING]
# What is waiting, and what whoever claims it does.
CLAIMS = {Index.State.QUEUED: Index.State.BUILDING, Index.State.GATHERED: Index.State.MERGING}
# Where an index goes that lost its worker; what is not named here begins with its plan again.
BACK = {
    Index.State.SPREAD: Index.State.SPREAD,
    Index.State.GATHERED: Index.State.GATHERED,
    Index.State.MERGING: Index.State.GATHERED,
}


def request_index(*, model_id: UUID, acting_user: User | None, at: datetime) -> Index:
    """Have the model's index built. Asked again, a failed one is tried again, others stay."""
    with transaction.atomic():
        model = Model.objects.get(pk=model_id)
        index, is_new = Index.objects.get_or_create(
            model=model, defaults={"lease_expires_at": at + settings.WORK_LEASE}
        )
        index = Index.objects.select_for_update().get(pk=index.pk)
        if index.state == Index.State.FAILED:
            index.state, index.attempts, index.failure_reason = Index.State.QUEUED, 0, ""
            index.lease_expires_at = at + settings.WORK_LEASE
            if index.plan:
                index.plan["mended"] = 0
            index.save(
                update_fields=["state", "attempts", "failure_reason", "lease_expires_at", "plan"]
            )
            is_new = True
        if is_new:
            enqueue(index.pk, at)
            audit.record(
                actor=acting_user,
                verb="attribution.index_requested",
                target=index,
                at=at,
                data={"model": str(model_id)},
            )
    return index


def request_rebuild(*, model_id: UUID, acting_user: User, at: datetime) -> Index:
    """Have a model's index made by the method of today, where it was made by an earlier one or
    has failed.

    For the model's owner and staff. Answers wait for the new index; receipts keep the root that
    they name. Asked again nothing happens. Raises PermissionDenied.
    """
    with transaction.atomic():
        index = Index.objects.select_for_update(of=("self",)).select_related("model").get(
            model=model_id
        )  # fmt: skip
        if acting_user != index.model.owner and not acting_user.is_staff:
            raise PermissionDenied("Only the model's owner and staff can have its index rebuilt.")
        if index.state == Index.State.FAILED:
            return request_index(model_id=model_id, acting_user=acting_user, at=at)
        if index.is_of_earlier_method:
            _queue_again(index, at)
            audit.record(
                actor=acting_user,
                verb="attribution.index_rebuild_requested",
                target=index,
                at=at,
                data={"model": str(model_id), "root": index.root},
            )
    return index


def _queue_again(index: Index, at: datetime) -> None:
    index.state, index.attempts, index.done = Index.State.QUEUED, 0, 0
    index.lease_expires_at = at + settings.WORK_LEASE
    index.save(update_fields=["state", "attempts", "done", "lease_expires_at"])
    enqueue(index.pk, at)


def request_revisions(*, record_id: UUID, at: datetime) -> list[Index]:
    """Have the indexes of all models that learnt from a withdrawn record made without it.

    One that is being built now may have read the record already: the same is asked again in a
    moment. Answers wait for their model's new index, so that the record is credited in none. Of
    one that has failed the plan goes, which has the record's text: another try plans anew.
    """
    versions = VersionRecord.objects.filter(record=record_id).values_list("version", flat=True)
    models = learnt.learnt_from(versions)
    asked = []
    with transaction.atomic():
        for index in Index.objects.select_for_update().filter(model__in=models).order_by("id"):
            if index.state in READ or (index.state == Index.State.QUEUED and index.plan):
                _ask_again(record_id, index.pk, at)
            elif index.state == Index.State.READY:
                _queue_again(index, at)
                audit.record(
                    actor=None,
                    verb="attribution.index_revision_requested",
                    target=index,
                    at=at,
                    data={"record": str(record_id), "root": index.root},
                )
                asked.append(index)
            elif index.state == Index.State.FAILED:
                _drop_plan(index)
                index.save(update_fields=["plan"])
    return asked


def claim(*, index_id: UUID, owner: str, at: datetime) -> Index.State | None:
    """What the caller has it for now: BUILDING it from its records, or MERGING its parts. None
    where somebody else has it, or nobody need."""
    for waiting, working in CLAIMS.items():
        if leases.claim(
            Index, index_id, from_states=[waiting], to_state=working, owner=owner, at=at
        ):
            return working
    return None


def wait_for_turn(*, index_id: UUID, at: datetime, task: str = BUILD_TASK) -> None:
    """Try again in a moment: the worker builds another index now."""
    part = ":part" if task == PART_TASK else ""
    with transaction.atomic():
        outbox.enqueue(
            task=task,
            args=[str(index_id)],
            queue=QUEUE,
            at=at,
            delay=TURN,
            key=f"index:{index_id}{part}:waiting",
        )


def note_progress(*, index_id: UUID, owner: str, done: int, total: int, at: datetime) -> bool:
    """Renew the lease and say how far it is; False means that the lease was lost."""
    if not leases.heartbeat(Index, index_id, owner=owner, at=at):
        return False
    Index.objects.filter(pk=index_id, lease_owner=owner).update(done=done, total=total)
    return True


def finish(
    *,
    index_id: UUID,
    owner: str,
    root: str,
    manifest: Mapping[str, Any],
    device: str,
    seconds: float,
    at: datetime,
) -> bool:
    """BUILDING or MERGING → READY, and wake the attributions that waited for it. To `seconds` and
    `device` of an index in parts are added those of its plan and of its parts."""
    with transaction.atomic():
        if not leases.finish(Index, index_id, owner=owner, to_state=Index.State.BUILDING):
            return False
        index = Index.objects.select_for_update().get(pk=index_id)
        device, seconds = _of_all(index, device, seconds)
        if index.root not in ("", root):
            _keep_past(index, at)
        index.state, index.root, index.manifest = Index.State.READY, root, dict(manifest)
        index.device, index.seconds, index.ready_at = device, seconds, at
        index.done = index.total = int(manifest["header"]["record_count"])
        _drop_plan(index)
        # Two models of one recipe may have the same adapter, and then the same index.
        subject = subject_of(root)
        if not LogLeaf.objects.filter(receipt_id=subject).exists():
            body = statement_of(index)
            log.append_statement(kind="index", subject_id=subject, body=body, at=at)
        index.save(
            update_fields=[
                "state",
                "root",
                "manifest",
                "device",
                "seconds",
                "ready_at",
                "done",
                "total",
                "plan",
            ]
        )
        audit.record(
            actor=None, verb="attribution.index_ready", target=index, at=at, data={"root": root}
        )
        events.emit(
            "attribution.index_ready", {"model_id": str(index.model_id), "root": root}, at=at
        )
        merged = Q(merge__parents__contains=[{"model": str(index.model_id)}])
        waiting = Attribution.objects.filter(
            Q(model=index.model_id) | merged,
            state__in=[Attribution.State.QUEUED, Attribution.State.FAILED],
        )
        for attribution in waiting.only("pk").iterator():
            receipts.try_again(attribution_id=attribution.pk, at=at)
    return True


def subject_of(root: str) -> UUID:
    """What the log's statement of an index is named by: the first half of its root."""
    return UUID(hex=root[:32])


def statement_of(index: Index | PastIndex) -> dict[str, Any]:
    """The root beside the model's signed manifest, which is older than any index of it. The same
    whenever it is asked for, so that a root that comes back is told once."""
    header = index.manifest["header"]
    return {
        "schema": STATEMENT,
        "model": str(index.model_id),
        "manifest_sha256": index.model.manifest_sha256,
        "adapter_sha256": header["adapter_sha256"],
        "index_root": index.root,
        "records": int(header["record_count"]),
        "method": header["method"],
        "version": header["version"],
    }


def statement_in_log(root: str) -> dict[str, Any] | None:
    """What the log was told of the root, by the first model that had it; None where nothing."""
    leaf = LogLeaf.objects.filter(receipt_id=subject_of(root)).first()
    if leaf is None:
        return None
    told = canonical.loads(bytes(leaf.data))["sha256"]
    rows: list[Index | PastIndex] = [*Index.objects.filter(root=root).select_related("model")]
    rows += PastIndex.objects.filter(root=root).select_related("model")
    bodies = (statement_of(row) for row in rows)
    return next((body for body in bodies if canonical.sha256(body) == told), None)


def fail(index_id: UUID, reason: str, at: datetime, owner: str | None = None) -> None:
    """Give up, unless `owner` is named and has lost the lease. What waits for the index fails
    with its reason and can be tried again. Parts that are made stay for then. Locks the index, then
    its parts."""
    with transaction.atomic():
        leases.give_up(
            Index,
            index_id,
            done_state=Index.State.READY,
            reason=reason,
            verb="attribution.index_failed",
            owner=owner,
            at=at,
        )
        IndexPart.objects.filter(
            index=index_id, index__state=Index.State.FAILED, state=IndexPart.State.BUILDING
        ).update(state=IndexPart.State.QUEUED, lease_owner="", lease_expires_at=None)


def lose(*, index_id: UUID, root: str, reason: str, at: datetime) -> None:
    """The store has lost files of a READY index: it is built again from the records, and answers
    wait. One that was lost soon after it was made fails, so that nobody builds for a store that
    keeps nothing. Where it has another `root` by now, somebody was quicker."""
    with transaction.atomic():
        index = Index.objects.select_for_update().filter(
            pk=index_id, root=root, state=Index.State.READY
        ).first()  # fmt: skip
        if index is None:
            return
        is_kept_badly = index.ready_at is not None and at - index.ready_at < KEPT_AT_LEAST
        if is_kept_badly:
            index.state, index.failure_reason = Index.State.FAILED, reason
            index.save(update_fields=["state", "failure_reason"])
        else:
            _queue_again(index, at)
        audit.record(
            actor=None,
            verb="attribution.index_lost",
            target=index,
            at=at,
            data={"root": root, "reason": reason, "state": index.state},
        )


def requeue(index_id: UUID, at: datetime) -> None:
    """Put back an index whose worker died, or whose message was lost on the way. The next worker
    goes on after the last shard. Where parts wait for workers, another is called."""
    with transaction.atomic():
        index = Index.objects.select_for_update().get(pk=index_id)
        if index.phase not in IN_WORK:
            return
        back = BACK.get(index.phase, Index.State.QUEUED)
        leases.put_back(Index, index_id, running_states=[index.state], to_state=back, at=at)
        if back != Index.State.SPREAD:
            enqueue(index_id, at)
        elif failed := index.parts.filter(state=IndexPart.State.FAILED).first():
            fail(index_id, failed.failure_reason, at)
        else:
            enqueue_part(index_id, at)


def _drop_plan(index: Index) -> None:
    """Parts and plan go, and their files even where no plan is known: who planned may have died."""
    index.plan = {}
    index.parts.all().delete()
    # A store that is away now is tidied later, and keeps nothing else from being done.
    # A lambda: Django cannot tell of a partial that failed, and raises in its place.
    transaction.on_commit(lambda: part_files.forget(index.pk), robust=True)


def _of_all(index: Index, device: str, seconds: float) -> tuple[str, float]:
    """Devices and seconds of all who had a part in the index."""
    if not index.plan:
        return device, seconds
    parts = list(index.parts.values_list("device", "seconds"))
    devices = {device, str(index.plan["device"])} | {name for name, _ in parts}
    total = seconds + float(index.plan["seconds"]) + sum(each for _, each in parts)
    return _told(sorted(devices - {""}, key=lambda name: (len(name), name))), round(total, 3)


def _told(devices: Sequence[str]) -> str:
    """As many whole names as the column holds, and how many more there are: a name that is cut is
    no device's, or another's."""
    most = int(Index._meta.get_field("device").max_length or 0)
    for shown in range(len(devices), 0, -1):
        rest = len(devices) - shown
        told = ", ".join(devices[:shown]) + (f" and {rest} more" if rest else "")
        if len(told) <= most:
            return told
    return f"{len(devices)} devices" if devices else ""


def _keep_past(index: Index, at: datetime) -> None:
    """Receipts name the root that this index had; what it commits to stays beside it."""
    PastIndex.objects.get_or_create(
        root=index.root,
        defaults={
            "model": index.model,
            "manifest": index.manifest,
            "device": index.device,
            "seconds": index.seconds,
            "ready_at": index.ready_at,
            "replaced_at": at,
        },
    )


def _ask_again(record_id: UUID, index_id: UUID, at: datetime) -> None:
    outbox.enqueue(
        task=REVISE_TASK,
        args=[str(record_id)],
        queue=QUEUE,
        at=at,
        delay=TURN,
        key=f"index:{index_id}:without:{record_id}",
    )


def enqueue(index_id: UUID, at: datetime) -> None:
    outbox.enqueue(
        task=BUILD_TASK, args=[str(index_id)], queue=QUEUE, at=at, key=f"index:{index_id}"
    )


def enqueue_part(index_id: UUID, at: datetime) -> None:
    """Call a worker for whichever part of the index is next."""
    outbox.enqueue(task=PART_TASK, args=[str(index_id)], queue=QUEUE, at=at)
