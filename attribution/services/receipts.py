"""An attribution from the wish to the receipt, which pays the contributors exactly once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import audit, events, leases, outbox
from accounts.blobs import put_bytes
from accounts.ids import uuid7
from attribution import bodies, crediting
from attribution.bodies import Evidence, Money
from attribution.crediting import Crediting
from attribution.models import Attribution, ContributorShare, Receipt, RecordInfluence
from attribution.services.log import append_receipt
from attribution.translog import canonical
from ledger import fees
from ledger.fees import Terms
from ledger.models import Entry, Hold
from ledger.services.settlement import settle_suspense
from ledger.splits import Split
from modelfactory.models import Model

TASK = "attribution.tasks.attribute"
QUEUE = "attribute"
WAIT_FOR_INDEX = timedelta(seconds=15)
State = Attribution.State
IN_WORK = [State.QUEUED, State.RUNNING]


def request_attribution(
    *,
    completion_id: UUID,
    model_id: UUID | None,
    prompt_ids: list[int],
    answer_ids: list[int],
    prompt: str,
    answer: str,
    fee: int,
    split: Split,
    input_price: int,
    output_price: int,
    at: datetime,
    payer_id: UUID | None = None,
    terms: Terms | None = None,
) -> Attribution:
    """Ask for a completion's receipt, in the caller's transaction; asked again, nothing changes.

    `terms` are those that the fee was divided by; None where there was no hold. `payer_id` is who
    asked; without it, whose hold paid. A free completion has no hold.
    """
    with transaction.atomic():
        attribution, is_new = Attribution.objects.get_or_create(
            completion_id=completion_id,
            defaults={
                "model": Model.objects.get(pk=model_id) if model_id else None,
                "payer_id": payer_id or _payer(completion_id),
                "prompt_ids": list(prompt_ids),
                "answer_ids": list(answer_ids),
                "prompt": prompt,
                "answer": answer,
                "prompt_tokens": len(prompt_ids),
                "completion_tokens": len(answer_ids),
                "fee": fee,
                "input_price": input_price,
                "output_price": output_price,
                "split": split_as_json(split),
                "terms": fees.to_json(terms) if terms else None,
                "lease_expires_at": at + settings.WORK_LEASE,
            },
        )
        if is_new:
            enqueue(attribution.pk, at=at)
    return attribution


def split_as_json(split: Split) -> dict[str, Any]:
    parts: dict[str, int] = {part.kind: part.basis_points for part in split.parts}
    return {"version": split.version, "parts": parts}


def enqueue(attribution_id: UUID, *, at: datetime, delay: timedelta | None = None) -> None:
    outbox.enqueue(
        task=TASK,
        args=[str(attribution_id)],
        queue=QUEUE,
        at=at,
        delay=delay,
        # A message that waits must not swallow one that shall run now.
        key=f"attribute:{attribution_id}:waiting" if delay else None,
    )


def claim(*, attribution_id: UUID, owner: str, at: datetime) -> Attribution | None:
    """The attribution, where the caller has it now."""
    taken = leases.claim(
        Attribution,
        attribution_id,
        from_states=[State.QUEUED],
        to_state=State.RUNNING,
        owner=owner,
        at=at,
    )
    if not taken:
        return None
    return Attribution.objects.select_related("model__base_model").get(pk=attribution_id)


def wait_for_index(*, attribution_id: UUID, at: datetime) -> None:
    """Look again in a while; the index wakes those that wait for it, too."""
    with transaction.atomic():
        enqueue(attribution_id, at=at, delay=WAIT_FOR_INDEX)


def try_again(*, attribution_id: UUID, at: datetime) -> bool:
    """Put a waiting or failed attribution back to work; whether there was one."""
    with transaction.atomic():
        rows: Any = Attribution.objects.filter(
            pk=attribution_id, state__in=[State.QUEUED, State.FAILED]
        )
        found: int = rows.update(
            state=State.QUEUED,
            attempts=0,
            failure_reason="",
            lease_expires_at=at + settings.WORK_LEASE,
        )
        if found:
            enqueue(attribution_id, at=at)
    return bool(found)


def requeue(attribution_id: UUID, at: datetime) -> None:
    """Put back an attribution whose worker died, or whose message was lost on the way."""
    Attribution.objects.filter(pk=attribution_id, state__in=IN_WORK).update(
        state=State.QUEUED, lease_owner="", lease_expires_at=at + settings.WORK_LEASE
    )
    enqueue(attribution_id, at=at)


def fail(attribution_id: UUID, reason: str, at: datetime, owner: str | None = None) -> None:
    """Give up, unless `owner` is named and has lost the lease. The contributors' part stays in
    suspense for the next try."""
    with transaction.atomic():
        attribution = Attribution.objects.select_for_update().get(pk=attribution_id)
        if attribution.state == State.DONE or owner not in (None, attribution.lease_owner):
            return
        attribution.state, attribution.failure_reason = State.FAILED, reason
        attribution.lease_owner, attribution.lease_expires_at = "", None
        attribution.save(
            update_fields=["state", "failure_reason", "lease_owner", "lease_expires_at"]
        )
        audit.record(
            actor=None,
            verb="attribution.failed",
            target=attribution,
            at=at,
            data={"reason": reason, "completion": str(attribution.completion_id)},
        )


def write_receipt(
    *, attribution_id: UUID, owner: str, evidence: Evidence, at: datetime
) -> Receipt | None:
    """RUNNING → DONE: settle the money, write the receipt and queue it for the log, all or nothing.

    None where the lease was lost: somebody else writes it, or has.
    """
    with transaction.atomic():
        attribution = _lock(attribution_id, owner)
        if attribution is None:
            return None
        credited = crediting.credit(
            influences=evidence.influences,
            counts=evidence.counts,
            model_id=attribution.model_id,
            has_answer=evidence.has_answer,
        )
        entry = settle_suspense(
            completion_id=attribution.completion_id, credits=credited.credits, at=at
        )
        money = Money(_divided(entry), entry.pk if entry else None)
        receipt = _create(attribution, evidence, credited, money, at)
        _add_rows(receipt, evidence, credited, money)
        _let_go(attribution)
        audit.record(
            actor=None,
            verb="attribution.receipt_created",
            target=receipt,
            at=at,
            data={"completion": str(attribution.completion_id), "outcome": receipt.outcome},
        )
        events.emit(
            "attribution.receipt_created",
            {"receipt_id": str(receipt.pk), "completion_id": str(attribution.completion_id)},
            at=at,
        )
    return receipt


def _payer(completion_id: UUID) -> UUID | None:
    """Whose hold pays for the completion; None where it was free."""
    return (
        Hold.objects.filter(cause_kind="completion", cause_id=completion_id)
        .values_list("payer_id", flat=True)
        .first()
    )


def _lock(attribution_id: UUID, owner: str) -> Attribution | None:
    return (
        Attribution.objects.select_for_update(of=("self",))
        .select_related("model")
        .filter(pk=attribution_id, state=State.RUNNING, lease_owner=owner)
        .first()
    )


def _divided(entry: Entry | None) -> int:
    """Wei that the settlement took out of the completion's suspense account."""
    if entry is None:
        return 0
    return sum(posting.amount for posting in entry.postings.all() if posting.amount > 0)


def _receipt_id(completion_id: UUID) -> UUID:
    """The completion's own id for its first receipt, so that the client of the API knows it before
    the answer begins; a later one of the same completion has a new id."""
    known = Receipt.objects.filter(completion_id=completion_id).exists()
    return uuid7() if known else completion_id


def _create(
    attribution: Attribution, evidence: Evidence, credited: Crediting, money: Money, at: datetime
) -> Receipt:
    receipt_id = _receipt_id(attribution.completion_id)
    private = bodies.private_part(attribution, evidence)
    public = bodies.public_part(
        receipt_id=receipt_id,
        attribution=attribution,
        evidence=evidence,
        crediting=credited,
        money=money,
        private=private,
        at=at,
    )
    leaf = append_receipt(receipt_id=receipt_id, body=public, at=at)
    sketch = put_bytes(evidence.sketch, "application/octet-stream") if evidence.sketch else None
    return Receipt.objects.create(
        id=receipt_id,
        attribution=attribution,
        completion_id=attribution.completion_id,
        model=attribution.model,
        payer_id=attribution.payer_id,
        outcome=credited.outcome,
        fee=attribution.fee,
        amount=money.contributors,
        entry_id=money.entry_id,
        public=public,
        body_sha256=canonical.sha256(public),
        leaf_hash=leaf.leaf_hash,
        private=private,
        sketch=sketch,
        at=at,
    )


def _add_rows(receipt: Receipt, evidence: Evidence, credited: Crediting, money: Money) -> None:
    RecordInfluence.objects.bulk_create(
        RecordInfluence(
            receipt=receipt,
            record_id=top.record_id,
            contributor_id=top.contributor_id,
            rank=rank,
            influence=top.influence,
        )
        for rank, top in enumerate(evidence.records, 1)
    )
    paid = bodies.credited(receipt.attribution, credited, money)
    influences = crediting.influence_by_credit(evidence.influences, credited)
    ContributorShare.objects.bulk_create(
        ContributorShare(
            receipt=receipt,
            kind=one.kind.upper(),
            contributor_id=one.owner_id if one.kind == "contributor" else None,
            datanet_id=one.datanet_id or one.owner_id,
            influence=influences[one.key],
            share_ppb=one.share_ppb,
            amount=paid[one.key].amount,
            passed_on=paid[one.key].amount - paid[one.key].kept,
        )
        for one in credited.credits
    )


def _let_go(attribution: Attribution) -> None:
    attribution.state, attribution.lease_owner = State.DONE, ""
    attribution.lease_expires_at, attribution.failure_reason = None, ""
    attribution.prompt = attribution.answer = ""
    attribution.prompt_ids, attribution.answer_ids = [], []
    attribution.save(
        update_fields=[
            "state",
            "lease_owner",
            "lease_expires_at",
            "failure_reason",
            "prompt",
            "answer",
            "prompt_ids",
            "answer_ids",
        ]
    )
