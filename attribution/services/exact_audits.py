"""Holding a disputed receipt against the exact influence: the wish, the work, what is published.

No money moves by it, as by scoring again (docs/decisions/0033).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import audit, leases, outbox
from accounts.models import User
from attribution import exact_bodies
from attribution.exact_bodies import Found, NotReplayed
from attribution.models import ExactAudit, Receipt
from attribution.services import log
from attribution.services.rescorings import CannotRescoreError, check, models_of, party
from attribution.translog import canonical
from modelfactory.replays import why_not

TASK = "attribution.tasks.audit_exactly"
QUEUE = "attribute"
TURN = timedelta(seconds=15)
State = ExactAudit.State
IN_WORK = [State.QUEUED, State.RUNNING]


class CannotAuditError(CannotRescoreError):
    """The run cannot be replayed, with a sentence for whoever asked."""


def request_exact_audit(*, receipt: Receipt, acting_user: User, at: datetime) -> ExactAudit:
    """Have a receipt held against the exact influence, which costs some trainings.

    For the payer, who is credited, and staff. Asked again, the same one is returned; a failed one
    is tried again. Raises PermissionDenied, and CannotRescoreError where there is nothing to
    compute, or the person has another one in work.
    """
    with transaction.atomic():
        # The person first: two wishes of one person at once are one after the other.
        User.objects.select_for_update().get(pk=acting_user.pk)
        row = Receipt.objects.select_for_update(of=("self",)).get(pk=receipt.pk)
        asked_as = party(row, acting_user)
        found = ExactAudit.objects.filter(receipt=row).exclude(state=State.FAILED).first()
        if found is not None:
            return found
        _check(row, acting_user)
        found = ExactAudit.objects.filter(receipt=row, asked_by=acting_user).first()
        if found is None:
            found = ExactAudit(receipt=row, asked_by=acting_user, asked_as=asked_as)
        found.state, found.attempts, found.failure_reason = State.QUEUED, 0, ""
        found.done = found.total = 0
        found.lease_expires_at = at + settings.WORK_LEASE
        found.save()
        outbox.enqueue(task=TASK, args=[str(found.pk)], queue=QUEUE, at=at)
        audit.record(
            actor=acting_user,
            verb="attribution.exact_audit_requested",
            target=found,
            at=at,
            data={"receipt": str(row.pk)},
        )
    return found


def _check(receipt: Receipt, user: User) -> None:
    check(receipt)
    reasons = [why_not(model.run) for model in models_of(receipt)]
    # Of several models those that can be replayed are; the others' reasons are told with them.
    if all(reasons):
        raise CannotAuditError(reasons[0])
    if ExactAudit.objects.filter(asked_by=user, state__in=IN_WORK).exists():
        raise CannotAuditError(
            "Another exact audit that you asked for is in work. It costs some trainings, so each "
            "person has one at a time. Ask again when it is done."
        )


def claim(*, audit_id: UUID, owner: str, at: datetime) -> ExactAudit | None:
    """The work, where the caller has it now."""
    taken = leases.claim(
        ExactAudit,
        audit_id,
        from_states=[State.QUEUED],
        to_state=State.RUNNING,
        owner=owner,
        at=at,
    )
    if not taken:
        return None
    rows = ExactAudit.objects.select_related("receipt__model__base_model", "receipt__model__run")
    return rows.get(pk=audit_id)


def wait_for_turn(*, audit_id: UUID, at: datetime) -> None:
    """Look again in a while: the worker replays another run now."""
    with transaction.atomic():
        outbox.enqueue(
            task=TASK,
            args=[str(audit_id)],
            queue=QUEUE,
            at=at,
            delay=TURN,
            key=f"exact:{audit_id}:waiting",
        )


def note_progress(*, audit_id: UUID, owner: str, done: int, total: int, at: datetime) -> bool:
    """Renew the lease and say how far it is; False means that the lease was lost."""
    if not leases.heartbeat(ExactAudit, audit_id, owner=owner, at=at):
        return False
    rows = ExactAudit.objects.filter(pk=audit_id, lease_owner=owner, state=State.RUNNING)
    return bool(rows.update(done=done, total=total))


def publish(
    *, audit_id: UUID, owner: str, found: Sequence[Found | NotReplayed], at: datetime
) -> ExactAudit | None:
    """RUNNING → DONE, and into the log. None where the lease was lost."""
    with transaction.atomic():
        row = ExactAudit.objects.select_for_update().get(pk=audit_id)
        if row.state != State.RUNNING or row.lease_owner != owner:
            return None
        row.public = exact_bodies.public_part(row=row, receipt=row.receipt, found=found, at=at)
        row.body_sha256 = canonical.sha256(row.public)
        row.state, row.at, row.done = State.DONE, at, row.total
        row.lease_owner, row.lease_expires_at, row.failure_reason = "", None, ""
        row.save()
        log.append_statement(kind="exact-audit", subject_id=row.pk, body=row.public, at=at)
        audit.record(
            actor=None,
            verb="attribution.receipt_audited_exactly",
            target=row,
            at=at,
            data={
                "receipt": str(row.receipt_id),
                "largest_difference_ppb": exact_bodies.largest_difference(row.public),
            },
        )
    return row


def requeue(audit_id: UUID, at: datetime) -> None:
    """Put back one whose worker died, or whose message was lost on the way."""
    leases.put_back(ExactAudit, audit_id, running_states=IN_WORK, to_state=State.QUEUED, at=at)
    outbox.enqueue(task=TASK, args=[str(audit_id)], queue=QUEUE, at=at)


def fail(audit_id: UUID, reason: str, at: datetime, owner: str | None = None) -> None:
    """Give up, unless `owner` is named and has lost the lease. Who asks again starts it again."""
    receipts = ExactAudit.objects.filter(pk=audit_id).values_list("receipt_id")
    leases.give_up(
        ExactAudit,
        audit_id,
        done_state=State.DONE,
        reason=reason,
        verb="attribution.exact_audit_failed",
        owner=owner,
        at=at,
        told={"receipt": str(receipts.get()[0])},
    )
