"""The way out of accounts that belong to no person: platform, treasuries, unassigned deposits.

Each is paid to a person's spendable balance by whoever keeps it, with a reason that stays in the
audit trail; from there it leaves as everybody's money does, within the limits of withdrawals.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Sum

from accounts import audit
from accounts.models import User
from accounts.notifications import notify
from ledger.errors import IdempotencyConflict, InvalidEntry, ReasonMissing
from ledger.models import Account, Deposit, Entry
from ledger.services.locking import lock_accounts
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, Refs, check_amount, gather, post_entry
from ledger.services.receivables import incoming
from ledger.words import open_text

Kind = Account.Kind
LONGEST_REASON = 500


def pay_from_platform(
    *, to: User, amount: int, reason: str, key: str, acting_user: User, at: datetime
) -> Entry:
    """Pay wei of the platform's part of fees to a person; `key` names the request, once.

    Raises PermissionDenied for all but staff; otherwise as `pay_from_treasury`.
    """
    if not acting_user.is_staff:
        raise PermissionDenied("Staff keep the platform's account.")
    return _pay(Kind.PLATFORM, None, to, amount, reason, f"platform:{key}", acting_user, at)


def pay_from_treasury(
    *,
    datanet_id: UUID,
    to: User,
    amount: int,
    reason: str,
    key: str,
    acting_user: User,
    at: datetime,
) -> Entry:
    """Pay wei of a Datanet's treasury to a person. Who may do so is the caller's rule.

    Raises InvalidAmount, ReasonMissing, InsufficientFunds and IdempotencyConflict (the key with
    other values).
    """
    full_key = f"treasury:{datanet_id}:{key}"
    return _pay(Kind.TREASURY, datanet_id, to, amount, reason, full_key, acting_user, at)


@transaction.atomic
def assign_deposit(
    *, deposit: Deposit, to: User, reason: str, acting_user: User, at: datetime
) -> Entry:
    """Give a deposit that named no account of ours to its owner, whole and once.

    Raises PermissionDenied for all but staff, ReasonMissing, InvalidEntry (it has an owner, or the
    chain took it back), InsufficientFunds and IdempotencyConflict (given to somebody else).
    """
    if not acting_user.is_staff:
        raise PermissionDenied("Staff find out whose a deposit is.")
    reason = _checked(reason)
    deposit = Deposit.objects.select_for_update(of=("self",)).get(pk=deposit.pk)
    source = Account.objects.get(pk=deposit.account_id)
    if source.kind != Kind.UNASSIGNED or deposit.state != Deposit.State.CREDITED:
        raise InvalidEntry("This deposit has an owner already, or the chain took it back.")
    key = f"assigned:{deposit.pk}"
    known = _known(key, to, deposit.amount)
    if known is not None:
        return known
    spendable = account_for(Kind.USER, to.pk)
    entry = post_entry(
        kind=Entry.Kind.PAID_OUT,
        key=key,
        at=at,
        legs=[
            Leg(source, -deposit.amount),
            *incoming(spendable, deposit.amount, beside=[source]),
        ],
        cause=Cause("deposit", spendable.pk),
        acting_user=acting_user,
    )
    _tell(entry, to, deposit.amount, reason, acting_user, at)
    return entry


@transaction.atomic
def _pay(
    kind: Account.Kind,
    owner_id: UUID | None,
    to: User,
    amount: int,
    reason: str,
    key: str,
    acting_user: User,
    at: datetime,
) -> Entry:
    check_amount(amount)
    reason = _checked(reason)
    spendable = account_for(Kind.USER, to.pk)
    mine = list(Account.objects.filter(kind=kind, owner_id=owner_id))
    owing = list(Account.objects.filter(kind=Kind.RECEIVABLE, owner_id=to.pk))
    # What the receiver owes is settled first, so that account is one of the entry's as well.
    lock_accounts([*mine, spendable, *owing])
    known = _known(key, to, amount)
    if known is not None:
        return known
    refs = Refs(datanet=owner_id)
    entry = post_entry(
        kind=Entry.Kind.PAID_OUT,
        key=key,
        at=at,
        legs=[*gather(kind, owner_id, amount, refs), *incoming(spendable, amount)],
        cause=Cause("account", spendable.pk),
        acting_user=acting_user,
    )
    _tell(entry, to, amount, reason, acting_user, at)
    return entry


def _known(key: str, to: User, amount: int) -> Entry | None:
    """What was paid under the key before. What the receiver owed then is no part of the question.

    Raises IdempotencyConflict.
    """
    entry = Entry.objects.filter(idempotency_key=key).first()
    if entry is None:
        return None
    paid = entry.postings.filter(account__owner_id=to.pk, amount__gt=0)
    if paid.aggregate(total=Sum("amount"))["total"] != amount:
        raise IdempotencyConflict("This was paid before, to somebody else or another amount.")
    return entry


def _checked(reason: str) -> str:
    if not (reason := reason.strip()[:LONGEST_REASON]):
        raise ReasonMissing("Say what it is paid for; it stays in the audit trail.")
    return reason


def _tell(
    entry: Entry, to: User, amount: int, reason: str, acting_user: User, at: datetime
) -> None:
    audit.record(
        actor=acting_user,
        verb="ledger.paid_out",
        target=entry,
        at=at,
        data={"amount": str(amount), "to": str(to.pk), "reason": reason},
    )
    if to.pk != acting_user.pk:
        notify(
            user=to,
            kind="ledger.paid_out",
            url=f"/explorer/entries/{entry.pk}/",
            at=at,
            title=f"{open_text(amount)} OPEN were paid to you",
            body=reason,
        )
