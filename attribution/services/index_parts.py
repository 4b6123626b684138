"""The parts of an index that many workers build: planned, claimed one by one, gathered.

Whoever builds an index plans it (`spread`) and lets go of it; the index waits, SPREAD, while parts
are claimed. The last part that is made lets the index be put together. Rows are locked parts first,
then their index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from accounts import audit, leases, outbox
from attribution.models import Index, IndexPart
from attribution.services import indexes

State = IndexPart.State


def spread(
    *,
    index_id: UUID,
    owner: str,
    fingerprint: str,
    files: Mapping[str, Mapping[str, Any]],
    rows: Sequence[int],
    at: datetime,
) -> bool:
    """BUILDING → SPREAD, with a part of so many `rows` each. Parts of the same plan that are made
    already stay, and those that were begun go on; False where the lease was lost."""
    plan = {"fingerprint": fingerprint, "files": dict(files), "rows": list(rows)}
    with transaction.atomic():
        list(IndexPart.objects.select_for_update().filter(index=index_id).order_by("number"))
        index = Index.objects.select_for_update().get(pk=index_id)
        if index.lease_owner != owner or index.state != Index.State.BUILDING:
            return False
        if index.plan != plan:
            index.parts.all().delete()
            IndexPart.objects.bulk_create(
                IndexPart(index=index, number=number, total=total)
                for number, total in enumerate(rows)
            )
        index.parts.exclude(state=State.READY).update(
            state=State.QUEUED, attempts=0, lease_owner="", failure_reason=""
        )
        index.plan, index.state, index.attempts = plan, Index.State.SPREAD, 0
        index.lease_owner, index.lease_expires_at = "", at + settings.WORK_LEASE
        index.done, index.total = _done(index.pk), sum(rows)
        index.save(
            update_fields=[
                "plan", "state", "attempts", "lease_owner", "lease_expires_at", "done", "total"
            ]
        )  # fmt: skip
        audit.record(
            actor=None,
            verb="attribution.index_spread",
            target=index,
            at=at,
            data={"parts": len(rows), "records": sum(rows)},
        )
        if not _gather(index, at):
            outbox.enqueue_many(
                task=indexes.PART_TASK,
                args=[[str(index.pk)]] * index.parts.filter(state=State.QUEUED).count(),
                queue=indexes.QUEUE,
                at=at,
            )
    return True


def claim_next(*, index_id: UUID, owner: str, at: datetime) -> IndexPart | None:
    """The first part that nobody has, now the caller's; None where none is left."""
    waiting = IndexPart.objects.filter(
        index=index_id, index__state=Index.State.SPREAD, state=State.QUEUED
    )
    while (pk := waiting.values_list("pk", flat=True).first()) is not None:
        if leases.claim(
            IndexPart, pk, from_states=[State.QUEUED], to_state=State.BUILDING, owner=owner, at=at
        ):
            return IndexPart.objects.select_related(
                "index__model__base_model", "index__model__run"
            ).get(pk=pk)
    return None


def is_any_left(index_id: UUID) -> bool:
    """Whether a part waits for a worker."""
    return IndexPart.objects.filter(index=index_id, state=State.QUEUED).exists()


def keep_shard(
    *, part_id: UUID, owner: str, name: str, file: Mapping[str, Any], rows: int, at: datetime
) -> bool:
    """A shard of `rows` records is in the store; False means that the lease was lost, or that the
    build was given up."""
    with transaction.atomic():
        part = _held(part_id, owner)
        if part is None or part.index.state != Index.State.SPREAD:
            return False
        if name not in part.files:
            part.files[name] = dict(file)
            part.done += rows
        part.lease_expires_at = at + settings.WORK_LEASE
        part.save(update_fields=["files", "done", "lease_expires_at"])
        Index.objects.filter(pk=part.index_id).update(done=_done(part.index_id))
    return True


def finish(*, part_id: UUID, owner: str, device: str, at: datetime) -> bool:
    """BUILDING → READY. The last one has the index put together; else another part is begun."""
    with transaction.atomic():
        part = _held(part_id, owner)
        if part is None:
            return False
        part.state, part.device, part.lease_owner = State.READY, device, ""
        part.lease_expires_at = None
        part.save(update_fields=["state", "device", "lease_owner", "lease_expires_at"])
        index = Index.objects.select_for_update().get(pk=part.index_id)
        is_spread = index.state == Index.State.SPREAD and not _gather(index, at)
        if is_spread and is_any_left(index.pk):
            indexes.enqueue_part(index.pk, at)
    return True


def fail(part_id: UUID, reason: str, at: datetime, owner: str | None = None) -> None:
    """A record or file is at fault, or the worker died too often: give up the whole build, unless
    `owner` is named and has lost the lease. Shards that are made stay for another try."""
    with transaction.atomic():
        part = IndexPart.objects.select_for_update().filter(pk=part_id).first()
        if part is None or part.state != State.BUILDING or owner not in (None, part.lease_owner):
            return
        part.state, part.failure_reason = State.FAILED, reason
        part.lease_owner, part.lease_expires_at = "", None
        part.save(update_fields=["state", "failure_reason", "lease_owner", "lease_expires_at"])
        indexes.fail(part.index_id, reason, at)


def requeue(part_id: UUID, at: datetime) -> None:
    """Put back a part whose worker died. The next one goes on after the last shard."""
    part = IndexPart.objects.get(pk=part_id)
    IndexPart.objects.filter(pk=part_id, state=State.BUILDING).update(
        state=State.QUEUED, lease_owner="", lease_expires_at=None
    )
    indexes.enqueue_part(part.index_id, at)


def _held(part_id: UUID, owner: str) -> IndexPart | None:
    return (
        IndexPart.objects.select_for_update(of=("self",))
        .select_related("index")
        .filter(pk=part_id, state=State.BUILDING, lease_owner=owner)
        .first()
    )


def _gather(index: Index, at: datetime) -> bool:
    """SPREAD → GATHERED where every part is made; whether it was so."""
    if index.parts.exclude(state=State.READY).exists():
        return False
    Index.objects.filter(pk=index.pk).update(
        state=Index.State.GATHERED, lease_expires_at=at + settings.WORK_LEASE
    )
    indexes.enqueue(index.pk, at)
    return True


def _done(index_id: UUID) -> int:
    return IndexPart.objects.filter(index=index_id).aggregate(done=Sum("done"))["done"] or 0
