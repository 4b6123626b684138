"""The parts of an index that many workers build: planned, claimed one by one, gathered.

Whoever builds an index plans it (`spread`) and lets go of it; the index waits, SPREAD, while parts
are claimed. The last part that is made lets the index be put together.

The row of the index is locked first, then those of its parts. The sweeper, which has locked parts
before it calls `requeue` or `give_up`, locks no index there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum

from accounts import audit, leases, outbox
from attribution import part_files
from attribution.models import Index, IndexPart
from attribution.services import indexes

State = IndexPart.State
# So often a build is planned again because the store has lost files of it, before it is given up.
MENDINGS = 3


def is_planned(index: Index, planned: Mapping[str, Any]) -> bool:
    """Whether the index has this very plan, so that parts that are made already count."""
    return all(index.plan.get(name) == planned[name] for name in ("fingerprint", "files", "rows"))


def spread(
    *, index_id: UUID, owner: str, planned: Mapping[str, Any], seconds: float, at: datetime
) -> bool:
    """BUILDING → SPREAD, with a part for each of the plan's `rows`. Parts of the same plan that
    are made already stay, and those that were begun go on; False where the lease was lost.

    `planned` has the `fingerprint` of the build, size and hash of its `files` and the `device`.
    """
    with transaction.atomic():
        index = Index.objects.select_for_update().get(pk=index_id)
        if index.lease_owner != owner or index.state != Index.State.BUILDING:
            return False
        is_same = is_planned(index, planned)
        if not is_same:
            index.parts.all().delete()
            IndexPart.objects.bulk_create(
                IndexPart(index=index, number=number, total=total)
                for number, total in enumerate(planned["rows"])
            )
            named = {file["sha256"] for file in planned["files"].values()}
            transaction.on_commit(lambda: part_files.forget(index.pk, named), robust=True)
        before = index.plan if is_same else {}
        index.plan = {
            **planned,
            "seconds": before.get("seconds", 0) + seconds,
            # Counted on where the fit came out otherwise, or a store that loses all is never told.
            "mended": index.plan.get("mended", 0) if index.plan else 0,
        }
        _wait(index, at)
        index.state, index.attempts = Index.State.SPREAD, 0
        index.lease_owner, index.lease_expires_at = "", at + settings.WORK_LEASE
        index.done, index.total = _done(index.pk), sum(planned["rows"])
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
            data={"parts": len(planned["rows"]), "records": index.total},
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
    return IndexPart.objects.filter(
        index=index_id, index__state=Index.State.SPREAD, state=State.QUEUED
    ).exists()


def keep_shard(
    *,
    part_id: UUID,
    owner: str,
    name: str,
    file: Mapping[str, Any],
    rows: int,
    at: datetime,
    seconds: float = 0,
) -> bool:
    """A shard of `rows` records is in the store, after `seconds` of work; False means that the
    lease was lost, or that the build was given up."""
    with transaction.atomic():
        part = _held(part_id, owner)
        if part is None:
            return False
        before, kept = part.files.get(name), {**file, "rows": rows}
        if before != kept:
            # One that could not be read was made again, and may have another hash.
            _count(part, {**part.files, name: kept}, 0 if before else rows)
        IndexPart.objects.filter(pk=part.pk).update(
            lease_expires_at=at + settings.WORK_LEASE, seconds=F("seconds") + seconds
        )
    return True


def drop_shards(*, part_id: UUID, owner: str, names: Collection[str]) -> bool:
    """The store has lost these shards of the part that is being made: they are made again. False
    means that the lease was lost."""
    with transaction.atomic():
        part = _held(part_id, owner)
        if part is None:
            return False
        _take_out(part, names)
    return True


def finish(
    *, part_id: UUID, owner: str, device: str, at: datetime, records: str = "", seconds: float = 0
) -> bool:
    """BUILDING → READY, after some more `seconds`. The last one has the index put together; else
    another part is begun. The file `records` of the plan is of no use any more."""
    with transaction.atomic():
        part = _held(part_id, owner)
        if part is None:
            return False
        part.state, part.device, part.lease_owner = State.READY, device, ""
        part.seconds, part.lease_expires_at = part.seconds + seconds, None
        part.save(update_fields=["state", "device", "seconds", "lease_owner", "lease_expires_at"])
        index = part.index
        if file := index.plan["files"].get(records):
            transaction.on_commit(lambda: part_files.drop(index.pk, file), robust=True)
        if not _gather(index, at) and is_any_left(index.pk):
            indexes.enqueue_part(index.pk, at)
    return True


def plan_again(
    *, index_id: UUID, owner: str, lost: Collection[str], reason: str, at: datetime
) -> bool:
    """The store has lost these files of the build, as who merges or makes a part has found: shards
    are taken out of their parts, and the index is planned again, which stores what is missing and
    has the rest made. After MENDINGS it is given up with the `reason`. False where `owner` has
    neither the index nor a part of it."""
    with transaction.atomic():
        index = Index.objects.select_for_update().get(pk=index_id)
        parts = list(index.parts.select_for_update().order_by("number"))
        is_merger = index.state == Index.State.MERGING and index.lease_owner == owner
        is_maker = index.state == Index.State.SPREAD and any(
            part.state == State.BUILDING and part.lease_owner == owner for part in parts
        )
        if not is_merger and not is_maker:
            return False
        for part in parts:
            if _take_out(part, lost):
                IndexPart.objects.filter(pk=part.pk).update(state=State.QUEUED, attempts=0)
        mended = int(index.plan["mended"]) + 1
        if mended > MENDINGS:
            indexes.fail(index.pk, reason, at)
            return True
        _wait(index, at)
        Index.objects.filter(pk=index.pk).update(
            state=Index.State.QUEUED,
            plan={**index.plan, "mended": mended},
            attempts=0,
            lease_owner="",
            lease_expires_at=at + settings.WORK_LEASE,
        )
        indexes.enqueue(index.pk, at)
        audit.record(
            actor=None,
            verb="attribution.index_planned_again",
            target=index,
            at=at,
            data={"lost": sorted(lost), "reason": reason},
        )
    return True


def fail(part_id: UUID, reason: str, at: datetime, owner: str) -> None:
    """A record or file is at fault: give up the whole build, unless `owner` has lost the lease.
    Shards that are made stay for another try."""
    with transaction.atomic():
        part = _held(part_id, owner)
        if part is None:
            return
        part.state, part.failure_reason = State.FAILED, reason
        part.lease_owner, part.lease_expires_at = "", None
        part.save(update_fields=["state", "failure_reason", "lease_owner", "lease_expires_at"])
        indexes.fail(part.index_id, reason, at)


def try_again(part_id: UUID, reason: str, at: datetime, owner: str) -> None:
    """The worker is at fault and not the records: as often as where workers die, another goes on
    after the last shard; then the build is given up."""
    part = IndexPart.objects.get(pk=part_id)
    if part.attempts >= settings.WORK_ATTEMPTS:
        fail(part_id, reason, at, owner)
        return
    with transaction.atomic():
        if _held(part_id, owner) is not None:
            IndexPart.objects.filter(pk=part_id).update(
                state=State.QUEUED, lease_owner="", lease_expires_at=None
            )
            indexes.enqueue_part(part.index_id, at)


def give_up(part_id: UUID, reason: str, at: datetime) -> None:
    """The worker died too often. The build is given up once the sweeper has let go of the part; or,
    where that is lost, by the next look at the index (`indexes.requeue`)."""
    part = IndexPart.objects.get(pk=part_id)
    given_up = IndexPart.objects.filter(pk=part_id, state=State.BUILDING).update(
        state=State.FAILED, failure_reason=reason, lease_owner="", lease_expires_at=None
    )
    if given_up:
        transaction.on_commit(lambda: indexes.fail(part.index_id, reason, at), robust=True)


def requeue(part_id: UUID, at: datetime) -> None:
    """Put back a part whose worker died. The next one goes on after the last shard."""
    part = IndexPart.objects.get(pk=part_id)
    IndexPart.objects.filter(pk=part_id, state=State.BUILDING).update(
        state=State.QUEUED, lease_owner="", lease_expires_at=None
    )
    indexes.enqueue_part(part.index_id, at)


def _held(part_id: UUID, owner: str) -> IndexPart | None:
    """The part, locked after its index, if `owner` makes it and the build goes on."""
    index = Index.objects.select_for_update(of=("self",)).filter(parts=part_id).first()
    if index is None or index.state != Index.State.SPREAD:
        return None
    part = (
        IndexPart.objects.select_for_update()
        .filter(pk=part_id, state=State.BUILDING, lease_owner=owner)
        .first()
    )
    if part is not None:
        part.index = index
    return part


def _take_out(part: IndexPart, names: Collection[str]) -> bool:
    """Take shards that are lost out of the part; whether it had one of them."""
    lost = {name: file for name, file in part.files.items() if name in names}
    if lost:
        left = {name: file for name, file in part.files.items() if name not in lost}
        # A part that is made is made no more, and is so in the same statement.
        state = State.QUEUED if part.state == State.READY else part.state
        _count(part, left, -sum(int(file["rows"]) for file in lost.values()), state)
    return bool(lost)


def _count(part: IndexPart, files: Mapping[str, Any], rows: int, state: str = "") -> None:
    """`rows` records more of the part and of its index are made, whatever others count."""
    IndexPart.objects.filter(pk=part.pk).update(
        files=dict(files), done=F("done") + rows, state=state or part.state
    )
    Index.objects.filter(pk=part.index_id).update(done=F("done") + rows)


def _wait(index: Index, at: datetime) -> None:
    """All parts that are not made wait for a worker, whoever has them now."""
    index.parts.exclude(state=State.READY).update(
        state=State.QUEUED, attempts=0, lease_owner="", lease_expires_at=None, failure_reason=""
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
