"""Writing receipts: the money is settled, the receipt stands and waits for the log, all at once.

One transaction for as many as a worker has scored (`attribution.workers`). A worker that dies
leaves nothing behind; whoever takes the work then writes it once, since a receipt stands for one
completion and a settlement has one key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from accounts import audit, events
from accounts.blobs import put_many
from accounts.copying import copy_rows
from accounts.ids import uuid7
from accounts.models import Blob
from attribution import bodies, crediting, merges, retrievals
from attribution.bodies import Evidence, Money
from attribution.models import (
    Attribution,
    ContributorShare,
    Passage,
    PassageRecord,
    Receipt,
    ReceiptParent,
    RecordInfluence,
)
from attribution.services.log import append_hashes
from attribution.translog import canonical
from ledger.fees import Credited
from ledger.models import Posting
from ledger.services.settlement import Settlement, settle_many
from modelfactory.models import Model

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
    alone. About 20 statements and COPYs, whatever the number of receipts.
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
        # By the credit's key, once it is settled.
        self.paid: dict[str, Credited] = {}
        credited = merges.credited(evidence, attribution.model_id)
        retrieval = retrievals.public_part(attribution.retrieval)
        self.credited = crediting.reward(credited, retrieval, attribution.model_id)


def _store_sketches(scored: Sequence[Scored]) -> dict[UUID, Blob]:
    """In one transaction of their own, which waits for the disk once and not for each."""
    having = [one for one in scored if one.evidence.sketch]
    blobs = put_many([one.evidence.sketch for one in having], "application/octet-stream")
    return {one.attribution_id: blob for one, blob in zip(having, blobs, strict=True)}


def _lock(attribution_ids: Sequence[UUID], owner: str) -> dict[UUID, Attribution]:
    """Those that `owner` still has."""
    rows = Attribution.objects.select_for_update().filter(
        pk__in=attribution_ids, state=State.RUNNING, lease_owner=owner
    )
    found = {row.pk: row for row in rows.order_by("pk")}
    # Each model once: those of a batch have the same.
    wanted = {row.model_id for row in found.values() if row.model_id}
    models = Model.objects.only("manifest_sha256", "adapter_sha256").in_bulk(wanted)
    for row in found.values():
        row.model = models[row.model_id] if row.model_id else None
    return found


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
        work.paid = bodies.credited(work.attribution, work.credited, work.money)


def _create(works: Sequence[_Work], at: datetime) -> list[Receipt]:
    ids = _receipt_ids([work.attribution.completion_id for work in works])
    made = [_unsaved(work, ids[work.attribution.completion_id], at) for work in works]
    receipts = [receipt for receipt, _ in made]
    leaves = append_hashes(hashes={one.pk: one.body_sha256 for one in receipts}, at=at)
    for one in receipts:
        one.leaf_hash = leaves[one.pk]
    copy_rows(Receipt, RECEIPT, (_row(one, public) for one, public in made))
    return receipts


RECEIPT = (
    "id", "created_at", "attribution", "completion_id", "model", "payer", "outcome", "fee",
    "amount", "entry_id", "public", "body_sha256", "leaf_hash", "private", "sketch", "at",
)  # fmt: skip


def _row(one: Receipt, public: bytes) -> tuple[Any, ...]:
    return (
        one.pk, one.created_at, one.attribution_id, one.completion_id, one.model_id, one.payer_id,
        one.outcome, one.fee, one.amount, one.entry_id, public, one.body_sha256,
        one.leaf_hash, json.dumps(one.private).encode(), one.sketch_id, one.at,
    )  # fmt: skip


def _receipt_ids(completion_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The completion's own id for its first receipt, so that the client of the API knows it before
    the answer begins; a later one of the same completion has a new id."""
    known = Receipt.objects.filter(completion_id__in=completion_ids)
    taken = set(known.values_list("completion_id", flat=True))
    return {one: uuid7() if one in taken else one for one in completion_ids}


def _unsaved(work: _Work, receipt_id: UUID, at: datetime) -> tuple[Receipt, bytes]:
    """The receipt and the canonical form of its public part."""
    attribution = work.attribution
    private = bodies.private_part(attribution, work.evidence)
    private = merges.with_parents(private, work.evidence)
    public = bodies.public_part(
        receipt_id=receipt_id,
        attribution=attribution,
        evidence=work.evidence,
        crediting=work.credited,
        money=work.money,
        paid=work.paid,
        private=private,
        at=at,
    )
    public = merges.public_part(public, attribution.merge, work.evidence, work.credited)
    canonical_form = canonical.dumps(public)
    receipt = Receipt(
        id=receipt_id,
        attribution_id=attribution.pk,
        completion_id=attribution.completion_id,
        model_id=attribution.model_id,
        payer_id=attribution.payer_id,
        outcome=work.credited.outcome,
        fee=attribution.fee,
        amount=work.money.contributors,
        entry_id=work.money.entry_id,
        public=public,
        body_sha256=hashlib.sha256(canonical_form).hexdigest(),
        private=private,
        sketch_id=work.sketch.pk if work.sketch else None,
        at=at,
    )
    return receipt, canonical_form


def _add_rows(works: Sequence[_Work], receipts: Sequence[Receipt]) -> None:
    pairs = list(zip(works, receipts, strict=True))
    now = timezone.now()
    ReceiptParent.objects.bulk_create(
        ReceiptParent(
            receipt_id=receipt.pk,
            model=one.model,
            place=place,
            weight_ppm=stated["weight_ppm"],
            share_ppb=one.share_ppb,
            without_index=not one.evidence.has_index,
        )
        for work, receipt in pairs
        if work.attribution.merge
        for place, (one, stated) in enumerate(
            zip(work.evidence.parents, work.attribution.merge["parents"], strict=True)
        )
    )
    copy_rows(
        RecordInfluence,
        ("id", "created_at", "receipt", "record", "contributor", "rank", "influence"),
        (
            (uuid7(), now, receipt.pk, top.record_id, top.contributor_id, rank, top.influence)
            for work, receipt in pairs
            for rank, top in enumerate(work.evidence.records, 1)
        ),
    )
    copy_rows(
        ContributorShare,
        SHARE,
        ((uuid7(), now, *share) for work, receipt in pairs for share in _shares(work, receipt)),
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


SHARE = (
    "id", "created_at", "receipt", "kind", "contributor", "datanet", "model", "influence",
    "share_ppb", "amount", "passed_on",
)  # fmt: skip


def _shares(work: _Work, receipt: Receipt) -> Iterator[tuple[Any, ...]]:
    """The values of SHARE from the third on."""
    influences = _influences(work)
    for key, paid in work.paid.items():
        one = paid.credit
        yield (
            receipt.pk,
            one.kind.upper(),
            one.owner_id if one.kind == "contributor" else None,
            one.datanet_id or one.owner_id,
            one.model_id if work.evidence.parents else None,
            influences[key],
            one.share_ppb,
            paid.amount,
            paid.amount - paid.kept,
        )


def _influences(work: _Work) -> dict[str, int]:
    """The influence that earned each credit; of several models, each by its own."""
    found = {one.key: 0 for one in work.credited.credits}
    if not work.evidence.parents:
        return crediting.influence_by_credit(work.evidence.influences, work.credited)
    for one, alone in zip(work.evidence.parents, work.credited.parents, strict=True):
        mine = crediting.influence_by_credit(one.evidence.influences, alone)
        found |= {key: value for key, value in mine.items() if key in found}
    return found


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
