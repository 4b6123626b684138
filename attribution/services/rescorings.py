"""Scoring an answer once more, from the wish to the receipt that names the first one.

No money moves: a payment that was made by the method of its day stands, and the new receipt tells
the difference (docs/decisions/0033).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction

from accounts import audit, leases, outbox
from accounts.blobs import put_bytes
from accounts.models import User
from attribution import bodies, learnt, merges, rescored_bodies, selectors
from attribution.bodies import Evidence
from attribution.models import Attribution, ContributorShare, Index, Receipt, Rescoring
from attribution.services.log import append_hashes
from attribution.texts import Texts
from attribution.translog import canonical
from modelfactory.models import Model

TASK = "attribution.tasks.rescore"
QUEUE = "attribute"
WAIT_FOR_INDEX = timedelta(seconds=15)
State = Rescoring.State
IN_WORK = [State.QUEUED, State.RUNNING]


class CannotRescoreError(ValueError):
    """There is nothing to score, with a sentence for whoever asked."""


def request_rescoring(*, receipt: Receipt, acting_user: User, at: datetime) -> Rescoring:
    """Have an answer scored once more by the index that its model, or each of them, has now.

    For the payer, who is credited, and staff. Asked again, the one that is in work is returned, or
    the one that was made by the same index; a failed one is tried again. Raises PermissionDenied,
    and CannotRescoreError where there is nothing to score by or from.
    """
    with transaction.atomic():
        # One at a time: two who ask at once get one receipt.
        row = Receipt.objects.select_for_update().get(pk=receipt.pk)
        asked_as = party(row, acting_user)
        check(row)
        found = _standing(row)
        if found is not None and found.state != State.FAILED:
            return found
        if found is not None:
            _queue_again(found, at)
        else:
            found = Rescoring.objects.create(
                receipt=row,
                asked_by=acting_user,
                asked_as=asked_as,
                lease_expires_at=at + settings.WORK_LEASE,
            )
        _enqueue(found.pk, at)
        audit.record(
            actor=acting_user,
            verb="attribution.rescoring_requested",
            target=found,
            at=at,
            data={"receipt": str(row.pk)},
        )
    return found


def party(receipt: Receipt, user: User) -> str:
    """As what somebody may doubt a receipt. Raises PermissionDenied for a stranger."""
    if receipt.payer_id == user.pk:
        return "payer"
    if ContributorShare.objects.filter(receipt=receipt, contributor=user).exists():
        return "contributor"
    if user.is_staff:
        return "staff"
    raise PermissionDenied("Only the parties of this receipt and staff can have it scored again.")


def check(receipt: Receipt) -> None:
    """Raises CannotRescoreError where there is nothing to score."""
    if receipt.model_id is None and "merge" not in receipt.public:
        raise CannotRescoreError("A base model has no contributors, so there is nothing to score.")
    if receipt.outcome == Receipt.Outcome.NO_ANSWER:
        raise CannotRescoreError("The answer has no tokens, so there is nothing to score.")
    if not receipt.private:
        raise CannotRescoreError(
            "The private part was erased, so nobody can show any more which texts it was for."
        )


def _standing(receipt: Receipt) -> Rescoring | None:
    """The newest that answers the wish already, or failed to."""
    rows = Rescoring.objects.filter(receipt=receipt)
    roots = _roots_of_now(receipt)
    done = (row for row in rows.filter(state=State.DONE) if row.index_roots == roots)
    return (
        rows.filter(state__in=IN_WORK).first()
        or next(done, None)
        or rows.filter(state=State.FAILED).first()
    )


def _roots_of_now(receipt: Receipt) -> list[str]:
    """Of the index of each model that answered; "" of one that has none, since all its records
    were withdrawn."""
    found = []
    for model in models_of(receipt):
        index = selectors.index_of(model.pk)
        gone = index is None or (
            index.state == Index.State.FAILED and not learnt.has_records(model)
        )
        found.append("" if index is None or gone else index.root)
    return found


def models_of(receipt: Receipt) -> list[Model]:
    """The models that answered: one, or several as one."""
    asked = Attribution(model=receipt.model, merge=merges.of_body(receipt.public))
    return merges.models_of(asked)


def claim(*, rescoring_id: UUID, owner: str, at: datetime) -> Rescoring | None:
    """The work, where the caller has it now."""
    taken = leases.claim(
        Rescoring,
        rescoring_id,
        from_states=[State.QUEUED],
        to_state=State.RUNNING,
        owner=owner,
        at=at,
    )
    if not taken:
        return None
    return Rescoring.objects.select_related("receipt__model__base_model").get(pk=rescoring_id)


def wait_for_index(*, rescoring_id: UUID, at: datetime) -> None:
    """Look again in a while."""
    with transaction.atomic():
        outbox.enqueue(
            task=TASK,
            args=[str(rescoring_id)],
            queue=QUEUE,
            at=at,
            delay=WAIT_FOR_INDEX,
            key=f"rescore:{rescoring_id}:waiting",
        )


def write_rescored(
    *, rescoring_id: UUID, owner: str, evidence: Evidence, texts: Texts, at: datetime
) -> Rescoring | None:
    """RUNNING → DONE: the receipt stands and waits for the log. None where the lease was lost.

    Raises CannotRescoreError where the private part was erased meanwhile.
    """
    # Before any lock, as where receipts are written.
    sketch = put_bytes(evidence.sketch, "application/octet-stream") if evidence.sketch else None
    with transaction.atomic():
        # The receipt first, as who asks and who erases do.
        earlier = Receipt.objects.select_for_update().get(rescorings=rescoring_id)
        row = Rescoring.objects.select_for_update().get(pk=rescoring_id)
        if row.state != State.RUNNING or row.lease_owner != owner:
            return None
        check(earlier)
        _fill(row, earlier, evidence, texts, at)
        row.state, row.sketch, row.at = State.DONE, sketch, at
        row.lease_owner, row.lease_expires_at, row.failure_reason = "", None, ""
        row.leaf_hash = append_hashes(hashes={row.pk: row.body_sha256}, at=at)[row.pk]
        row.save()
        audit.record(
            actor=None,
            verb="attribution.receipt_rescored",
            target=row,
            at=at,
            data={"receipt": str(earlier.pk), "outcome": row.public["outcome"]},
        )
    return row


def _fill(row: Rescoring, earlier: Receipt, evidence: Evidence, texts: Texts, at: datetime) -> None:
    attribution = Attribution(
        completion_id=earlier.completion_id, prompt=texts.prompt, answer=texts.answer
    )
    private = bodies.private_part(attribution, evidence, salts=earlier.private["payer"])
    row.private = merges.with_parents(private, evidence)
    row.public = rescored_bodies.public_part(
        rescoring=row,
        receipt=earlier,
        evidence=evidence,
        crediting=merges.credited(evidence, earlier.model_id),
        private=row.private,
        at=at,
    )
    row.body_sha256 = canonical.sha256(row.public)
    row.index_root = evidence.index_root


def requeue(rescoring_id: UUID, at: datetime) -> None:
    """Put back one whose worker died, or whose message was lost on the way."""
    leases.put_back(Rescoring, rescoring_id, running_states=IN_WORK, to_state=State.QUEUED, at=at)
    _enqueue(rescoring_id, at)


def fail(rescoring_id: UUID, reason: str, at: datetime, owner: str | None = None) -> None:
    """Give up, unless `owner` is named and has lost the lease. Who asks again starts it again."""
    receipts = Rescoring.objects.filter(pk=rescoring_id).values_list("receipt_id")
    leases.give_up(
        Rescoring,
        rescoring_id,
        done_state=State.DONE,
        reason=reason,
        verb="attribution.rescoring_failed",
        owner=owner,
        at=at,
        told={"receipt": str(receipts.get()[0])},
    )


def _queue_again(row: Rescoring, at: datetime) -> None:
    row.state, row.attempts, row.failure_reason = State.QUEUED, 0, ""
    row.lease_expires_at = at + settings.WORK_LEASE
    row.save(update_fields=["state", "attempts", "failure_reason", "lease_expires_at"])


def _enqueue(rescoring_id: UUID, at: datetime) -> None:
    arguments: list[Any] = [str(rescoring_id)]
    outbox.enqueue(task=TASK, args=arguments, queue=QUEUE, at=at)
