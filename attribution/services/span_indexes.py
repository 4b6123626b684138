"""A version's span index from the wish to the manifest. The worker claims it; nothing computes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import audit, leases, outbox
from accounts.models import User
from attribution.models import Passage, PassageRecord, SpanIndex
from datanets.models import Record

TASK = "attribution.tasks.build_span_index"
QUEUE = "attribute"
IN_WORK = [SpanIndex.State.QUEUED, SpanIndex.State.BUILDING]


def request_span_index(
    *, version_id: UUID, base_model_id: UUID, acting_user: User | None, at: datetime
) -> SpanIndex:
    """Have a version's span index built for a base model; asked again, nothing changes."""
    with transaction.atomic():
        index, is_new = SpanIndex.objects.get_or_create(
            version_id=version_id,
            base_model_id=base_model_id,
            defaults={"lease_expires_at": at + settings.WORK_LEASE},
        )
        if is_new:
            _enqueue(index.pk, at)
            audit.record(
                actor=acting_user,
                verb="attribution.span_index_requested",
                target=index,
                at=at,
                data={"version": str(version_id), "base_model": str(base_model_id)},
            )
    return index


def try_again(*, index_id: UUID, at: datetime) -> bool:
    """FAILED → QUEUED; whether it was failed."""
    with transaction.atomic():
        found = SpanIndex.objects.filter(pk=index_id, state=SpanIndex.State.FAILED).update(
            state=SpanIndex.State.QUEUED,
            attempts=0,
            failure_reason="",
            lease_expires_at=at + settings.WORK_LEASE,
        )
        if found:
            _enqueue(index_id, at)
    return bool(found)


def claim(*, index_id: UUID, owner: str, at: datetime) -> bool:
    """Whether the caller has it now."""
    return leases.claim(
        SpanIndex,
        index_id,
        from_states=[SpanIndex.State.QUEUED],
        to_state=SpanIndex.State.BUILDING,
        owner=owner,
        at=at,
    )


def finish(
    *,
    index_id: UUID,
    owner: str,
    root: str,
    manifest: Mapping[str, Any],
    seconds: float,
    at: datetime,
) -> bool:
    """BUILDING → READY; False where the lease was lost."""
    with transaction.atomic():
        if not leases.finish(SpanIndex, index_id, owner=owner, to_state=SpanIndex.State.BUILDING):
            return False
        index = SpanIndex.objects.select_for_update().get(pk=index_id)
        index.state, index.root, index.manifest = SpanIndex.State.READY, root, dict(manifest)
        index.seconds, index.ready_at = seconds, at
        index.save(update_fields=["state", "root", "manifest", "seconds", "ready_at"])
        audit.record(
            actor=None,
            verb="attribution.span_index_ready",
            target=index,
            at=at,
            data={"root": root},
        )
    return True


def fail(index_id: UUID, reason: str, at: datetime, owner: str | None = None) -> None:
    """Give up, unless `owner` is named and has lost the lease. Receipts go on without passages
    of this version, and say so."""
    leases.give_up(
        SpanIndex,
        index_id,
        done_state=SpanIndex.State.READY,
        reason=reason,
        verb="attribution.span_index_failed",
        owner=owner,
        at=at,
    )


def requeue(index_id: UUID, at: datetime) -> None:
    """Put back an index whose worker died, or whose message was lost on the way. The next worker
    goes on after the last sorted segment."""
    leases.put_back(
        SpanIndex, index_id, running_states=IN_WORK, to_state=SpanIndex.State.QUEUED, at=at
    )
    _enqueue(index_id, at)


def forget_record(*, record_id: UUID, at: datetime) -> int:
    """Delete where a withdrawn or removed record stood in answers; returns in how many passages.

    A passage goes with the last of its records, its text with it. The receipts stay as they are:
    they hold the record's id, never its words.
    """
    with transaction.atomic():
        held = PassageRecord.objects.filter(record=record_id)
        passages = set(held.values_list("passage", flat=True))
        held.delete()
        Passage.objects.filter(pk__in=passages, records__isnull=True).delete()
        if passages:
            audit.record(
                actor=None,
                verb="attribution.passages_forgotten",
                target=Record.objects.get(pk=record_id),
                at=at,
                data={"passages": len(passages)},
            )
    return len(passages)


def _enqueue(index_id: UUID, at: datetime) -> None:
    outbox.enqueue(
        task=TASK, args=[str(index_id)], queue=QUEUE, at=at, key=f"span-index:{index_id}"
    )
