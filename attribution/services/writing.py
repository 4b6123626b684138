"""Writing receipts: the money is settled, the receipt stands and waits for the log, all at once.

One transaction for as many as a worker has scored (`attribution.workers`). A worker that dies
leaves nothing behind; whoever takes the work then writes it once, since a receipt stands for one
completion and a settlement has one key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from accounts import audit, events
from accounts.blobs import put_many
from accounts.ids import uuid7
from accounts.models import Blob
from attribution import bodies, crediting, retrievals
from attribution.bodies import Evidence, Money
from attribution.models import (
    Attribution,
    ContributorShare,
    Passage,
    PassageRecord,
    Receipt,
    RecordInfluence,
)
from attribution.services.log import append_receipts
from attribution.translog import canonical
from ledger.models import Posting
from ledger.services.settlement import Settlement, settle_many

State = Attribution.State


@dataclass(frozen=True, slots=True)
class Scored:
    """An attribution that the caller has claimed, and what was found out about it."""

    attribution_id: UUID
    evidence: Evidence


def write_receipt(
    *, attribution_id: UUID, owner: str, evidence: Evidence, at: datetime
) -> Receipt | None:
    """Write one receipt; see `write_receipts`. None where the lease was lost."""
    one = Scored(attribution_id, evidence)
    written = write_receipts(owner=owner, scored=[one], at=at)
    return written[0] if written else None


def write_receipts(*, owner: str, scored: Sequence[Scored], at: datetime) -> list[Receipt]:
    """RUNNING → DONE: settle the money, write the receipts and queue them for the log.

    One transaction, all or nothing. Those whose lease was lost are left out: somebody else writes
    them, or has. Raises as `settle_many`; what raises for one of several is found by writing each
    alone. About 25 statements, whatever the number of receipts.
    """
    # Before any lock: two batches that share a sketch would wait for each other's rows.
    sketches = _store_sketches(scored)
    with transaction.atomic():
        mine = _lock([one.attribution_id for one in scored], owner)
        works = [
            _Work(mine[one.attribution_id], one.evidence, sketches.get(one.attribution_id))
            for one in scored
            if one.attribution_id in mine
        ]
        if not works:
            return []
        _settle(works, at)
        receipts = _create(works, at)
        _add_rows(works, receipts)
        _let_go(works)
        _tell(receipts, at)
    return receipts


class _Work:
    """A scored attribution on its way to its receipt."""

    def __init__(self, attribution: Attribution, evidence: Evidence, sketch: Blob | None) -> None:
        self.attribution, self.evidence, self.sketch = attribution, evidence, sketch
        self.money = Money(0, None)
        credited = crediting.credit(
            influences=evidence.influences,
            counts=evidence.counts,
            model_id=attribution.model_id,
            has_answer=evidence.has_answer,
            is_clear=evidence.confidence is None or evidence.confidence.clear,
        )
        retrieval = retrievals.public_part(attribution.retrieval)
        self.credited = crediting.reward(credited, retrieval, attribution.model_id)


def _store_sketches(scored: Sequence[Scored]) -> dict[UUID, Blob]:
    """In one transaction of their own, which waits for the disk once and not for each."""
    having = [one for one in scored if one.evidence.sketch]
    blobs = put_many([one.evidence.sketch for one in having], "application/octet-stream")
    return {one.attribution_id: blob for one, blob in zip(having, blobs, strict=True)}


def _lock(attribution_ids: Sequence[UUID], owner: str) -> dict[UUID, Attribution]:
    """Those that `owner` still has."""
    rows = (
        Attribution.objects.select_for_update(of=("self",))
        .select_related("model")
        .filter(pk__in=attribution_ids, state=State.RUNNING, lease_owner=owner)
    )
    return {row.pk: row for row in rows.order_by("pk")}


def _settle(works: Sequence[_Work], at: datetime) -> None:
    entries = settle_many(
        settlements=[
            Settlement(work.attribution.completion_id, work.credited.credits) for work in works
        ],
        at=at,
    )
    # What each settlement took out of its completion's suspense account.
    paid = dict(
        Posting.objects.filter(
            entry__in=[entry for entry in entries.values() if entry], amount__gt=0
        )
        .values_list("entry_id")
        .annotate(Sum("amount"))
    )
    for work in works:
        entry = entries[work.attribution.completion_id]
        if entry is not None:
            work.money = Money(paid[entry.pk], entry.pk)


def _create(works: Sequence[_Work], at: datetime) -> list[Receipt]:
    ids = _receipt_ids([work.attribution.completion_id for work in works])
    receipts = [_unsaved(work, ids[work.attribution.completion_id], at) for work in works]
    leaves = append_receipts(bodies={one.pk: one.public for one in receipts}, at=at)
    for one in receipts:
        one.leaf_hash = leaves[one.pk].leaf_hash
    return Receipt.objects.bulk_create(receipts)


def _receipt_ids(completion_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The completion's own id for its first receipt, so that the client of the API knows it before
    the answer begins; a later one of the same completion has a new id."""
    known = Receipt.objects.filter(completion_id__in=completion_ids)
    taken = set(known.values_list("completion_id", flat=True))
    return {one: uuid7() if one in taken else one for one in completion_ids}


def _unsaved(work: _Work, receipt_id: UUID, at: datetime) -> Receipt:
    attribution = work.attribution
    private = bodies.private_part(attribution, work.evidence)
    public = bodies.public_part(
        receipt_id=receipt_id,
        attribution=attribution,
        evidence=work.evidence,
        crediting=work.credited,
        money=work.money,
        private=private,
        at=at,
    )
    return Receipt(
        id=receipt_id,
        attribution=attribution,
        completion_id=attribution.completion_id,
        model=attribution.model,
        payer_id=attribution.payer_id,
        outcome=work.credited.outcome,
        fee=attribution.fee,
        amount=work.money.contributors,
        entry_id=work.money.entry_id,
        public=public,
        body_sha256=canonical.sha256(public),
        private=private,
        sketch=work.sketch,
        at=at,
    )


def _add_rows(works: Sequence[_Work], receipts: Sequence[Receipt]) -> None:
    pairs = list(zip(works, receipts, strict=True))
    RecordInfluence.objects.bulk_create(
        RecordInfluence(
            receipt=receipt,
            record_id=top.record_id,
            contributor_id=top.contributor_id,
            rank=rank,
            influence=top.influence,
        )
        for work, receipt in pairs
        for rank, top in enumerate(work.evidence.records, 1)
    )
    ContributorShare.objects.bulk_create(
        share for work, receipt in pairs for share in _shares(work, receipt)
    )
    _add_passages(pairs)


def _add_passages(pairs: Sequence[tuple[_Work, Receipt]]) -> None:
    found = [
        (
            Passage(
                receipt=receipt,
                rank=rank,
                start=one.start,
                end=one.end,
                tokens=one.tokens,
                places=one.places,
                text=one.text,
            ),
            one.records,
        )
        for work, receipt in pairs
        if work.evidence.found
        for rank, one in enumerate(work.evidence.found.passages, 1)
    ]
    Passage.objects.bulk_create(passage for passage, _ in found)
    PassageRecord.objects.bulk_create(
        PassageRecord(passage=passage, record_id=record, contributor_id=contributor)
        for passage, records in found
        for record, contributor in records
    )


def _shares(work: _Work, receipt: Receipt) -> Iterator[ContributorShare]:
    paid = bodies.credited(work.attribution, work.credited, work.money)
    influences = crediting.influence_by_credit(work.evidence.influences, work.credited)
    for one in work.credited.credits:
        yield ContributorShare(
            receipt=receipt,
            kind=one.kind.upper(),
            contributor_id=one.owner_id if one.kind == "contributor" else None,
            datanet_id=one.datanet_id or one.owner_id,
            influence=influences[one.key],
            share_ppb=one.share_ppb,
            amount=paid[one.key].amount,
            passed_on=paid[one.key].amount - paid[one.key].kept,
        )


def _let_go(works: Sequence[_Work]) -> None:
    """DONE, without the texts. Their objects are not told: nobody reads them after this."""
    rows: Any = Attribution.objects.filter(pk__in=[work.attribution.pk for work in works])
    rows.update(
        state=State.DONE,
        lease_owner="",
        lease_expires_at=None,
        failure_reason="",
        prompt="",
        answer="",
        prompt_ids=[],
        answer_ids=[],
    )


def _tell(receipts: Sequence[Receipt], at: datetime) -> None:
    audit.record_many(
        [
            audit.Act(
                actor=None,
                verb="attribution.receipt_created",
                target=one,
                data={"completion": str(one.completion_id), "outcome": one.outcome},
            )
            for one in receipts
        ],
        at=at,
    )
    events.emit_many(
        "attribution.receipt_created",
        [{"receipt_id": str(one.pk), "completion_id": str(one.completion_id)} for one in receipts],
        at=at,
    )
