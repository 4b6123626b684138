"""Switching retrieval on and off for a deployment, and what its builder writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from accounts import audit, leases, outbox
from accounts.models import User
from datanets.ingest import payload as payloads
from datanets.models import Record
from serving.errors import NotDeployable
from serving.models import Deployment, RecordVector, RetrievalIndex, RetrievalState
from serving.models.retrieval import RETRIEVAL_IN_WORK
from serving.services.deployments import check_base_is_served

TASK = "serving.tasks.build_retrieval"
State = RetrievalState


def switch_on(*, deployment: Deployment, acting_user: User, at: datetime) -> RetrievalIndex:
    """Have a worker make the vectors of the model's records; READY, they are looked up in answers.

    What is on or being built already stays as it is. Raises NotDeployable (somebody else's, a base
    alone) and NoWorker.
    """
    if not deployment.may_be_changed_by(acting_user):
        raise NotDeployable("Only the owner of a deployment switches retrieval.")
    if deployment.model_id is None:
        raise NotDeployable("A base has no Datanets of its own whose records could be retrieved.")
    check_base_is_served(deployment.base_model, at=at)
    with transaction.atomic():
        index, _ = RetrievalIndex.objects.select_for_update(of=("self",)).get_or_create(
            deployment=deployment, defaults={"created_at": at}
        )
        if index.state in (State.OFF, State.FAILED):
            index.state, index.attempts, index.failure_reason = State.QUEUED, 0, ""
            index.lease_owner, index.lease_expires_at = "", at + settings.WORK_LEASE
            index.save(
                update_fields=[
                    "state", "attempts", "failure_reason", "lease_owner", "lease_expires_at"
                ]
            )  # fmt: skip
            audit.record(
                actor=acting_user, verb="deployment.retrieval_on", target=deployment, at=at
            )
            _enqueue(index, at)
    return index


def switch_off(*, deployment: Deployment, acting_user: User, at: datetime) -> None:
    """Answer without records from now on, and forget their vectors.

    Raises NotDeployable where it is somebody else's.
    """
    if not deployment.may_be_changed_by(acting_user):
        raise NotDeployable("Only the owner of a deployment switches retrieval.")
    with transaction.atomic():
        rows = RetrievalIndex.objects.filter(deployment=deployment).exclude(state=State.OFF)
        switched = rows.update(
            state=State.OFF,
            lease_owner="",
            lease_expires_at=None,
            failure_reason="",
            done=0,
            total=0,
            encoder="",
            ready_at=None,
        )
        if switched:
            RecordVector.objects.filter(index__deployment=deployment).delete()
            audit.record(
                actor=acting_user, verb="deployment.retrieval_off", target=deployment, at=at
            )


def claim(*, index_id: UUID, owner: str, at: datetime) -> RetrievalIndex | None:
    """The index, where the caller has its build now."""
    taken = leases.claim(
        RetrievalIndex,
        index_id,
        from_states=[State.QUEUED],
        to_state=State.BUILDING,
        owner=owner,
        at=at,
    )
    if not taken:
        return None
    rows = RetrievalIndex.objects.select_related("deployment__base_model", "deployment__model")
    return rows.get(pk=index_id)


def begin(*, index_id: UUID, owner: str, encoder: str, dimensions: int, total: int) -> None:
    """Note by what the vectors are made; those that another encoder made are dropped."""
    with transaction.atomic():
        index = RetrievalIndex.objects.select_for_update(of=("self",)).get(pk=index_id)
        if index.lease_owner != owner:
            return
        if index.encoder != encoder:
            index.vectors.all().delete()
        index.encoder, index.dimensions, index.total, index.done = encoder, dimensions, total, 0
        index.save(update_fields=["encoder", "dimensions", "total", "done"])


def add(
    *, index_id: UUID, owner: str, lines: Sequence[tuple[UUID, str, list[float]]], done: int
) -> bool:
    """Keep vectors of records (id, group, vector) that nobody withheld; False: lease lost."""
    with transaction.atomic():
        rows = RetrievalIndex.objects.filter(pk=index_id, lease_owner=owner)
        if not rows.update(done=done):
            return False
        # Locked, so that a record cannot be withdrawn between this look and the insertion.
        ids = [pk for pk, _, _ in lines]
        there = set(
            Record.objects.select_for_update(of=("self",))
            .filter(pk__in=ids)
            .exclude(pk__in=Record.objects.withheld().values("pk"))
            .order_by("pk")
            .values_list("pk", flat=True)
        )
        RecordVector.objects.bulk_create(
            [
                RecordVector(index_id=index_id, record_id=pk, group=group, vector=vector)
                for pk, group, vector in lines
                if pk in there
            ],
            ignore_conflicts=True,
        )
    return True


def finish(*, index_id: UUID, owner: str, at: datetime) -> None:
    rows: Any = RetrievalIndex.objects.filter(pk=index_id, lease_owner=owner, state=State.BUILDING)
    rows.update(state=State.READY, ready_at=at, lease_owner="", lease_expires_at=None)


def refuse(*, index_id: UUID, owner: str, reason: str, at: datetime) -> None:
    leases.finish(
        RetrievalIndex, index_id, owner=owner, to_state=State.FAILED, failure_reason=reason
    )


def build_again(pk: UUID, at: datetime) -> None:
    """For the sweeper: the worker that should build it did not come back."""
    rows = RetrievalIndex.objects.filter(pk=pk, state__in=RETRIEVAL_IN_WORK)
    rows.update(
        state=State.QUEUED,
        attempts=F("attempts") + 1,
        lease_owner="",
        lease_expires_at=at + settings.WORK_LEASE,
    )
    _enqueue(RetrievalIndex.objects.select_related("deployment__base_model").get(pk=pk), at)


def give_up(pk: UUID, reason: str, at: datetime) -> None:
    """For the sweeper: too many attempts."""
    rows = RetrievalIndex.objects.filter(pk=pk, state__in=RETRIEVAL_IN_WORK)
    rows.update(state=State.FAILED, failure_reason=reason, lease_owner="", lease_expires_at=None)


def forget_record(*, record_id: UUID) -> int:
    """A record was withdrawn or taken down: its vectors go. Returns how many there were."""
    deleted, _ = RecordVector.objects.filter(record=record_id).delete()
    return deleted


def texts_of(record_ids: Sequence[UUID], most: int) -> dict[UUID, str]:
    """The text of each record, its first `most` characters."""
    rows = Record.objects.filter(pk__in=record_ids).values_list("pk", "payload")
    return {pk: payloads.excerpt(payload, most) for pk, payload in rows}


def _enqueue(index: RetrievalIndex, at: datetime) -> None:
    outbox.enqueue(task=TASK, args=[str(index.pk)], queue=index.deployment.queue, at=at)
