"""What somebody owes the house, because the chain took back a deposit that was spent already.

A RECEIVABLE account is the house's claim on its owner: zero or below, as everything outside is. It
is settled from whatever becomes spendable, first of all; until then its owner spends nothing. So
nobody's own balance is ever negative, and the books equal the contracts all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import audit, events
from accounts.models import User
from accounts.notifications import notify
from ledger.errors import SpendingBlocked
from ledger.models import Account, Entry
from ledger.services.alarms import alarm_staff
from ledger.services.locking import lock_accounts
from ledger.services.opening import account_for
from ledger.services.posting import Leg, post_entry
from ledger.words import open_text

SWEEP = 200


def owed_by(owner_id: UUID | None) -> int:
    """Wei that the owner owes the house; 0 for all but those whose spent deposit vanished."""
    found = Account.objects.filter(kind=Account.Kind.RECEIVABLE, owner_id=owner_id)
    return -(found.values_list("balance", flat=True).first() or 0)


def check_may_spend(user_id: UUID) -> None:
    """Raises SpendingBlocked while the user owes something.

    No lock is needed for the spendable balance: what is owed was written in the entry that took all
    of it, so whoever looked just before finds nothing to spend.
    """
    owed = owed_by(user_id)
    if owed > 0:
        raise SpendingBlocked(blocked_text(owed))


def blocked_text(owed: int) -> str:
    """What is said wherever something would spend; `owed` in wei."""
    return (
        f"Spending is blocked: {open_text(owed)} OPEN are owed, since the chain took back a "
        "deposit of yours after you had spent it. Deposit that much, make earnings spendable, or "
        "wait: the deposit's transaction may come again."
    )


def incoming(account: Account, amount: int, *, beside: Sequence[Account] = ()) -> list[Leg]:
    """Legs that credit `amount` to a spendable balance, after what its owner owes.

    Call it in the transaction of the entry; `beside` are the other accounts of the entry, which
    are locked together with these. Other accounts are credited as they are.
    """
    if account.kind != Account.Kind.USER:
        return [Leg(account, amount)]
    receivable = Account.objects.filter(
        kind=Account.Kind.RECEIVABLE, owner_id=account.owner_id
    ).first()
    if receivable is None:
        return [Leg(account, amount)]
    receivable = lock_accounts([account, receivable, *beside])[receivable.pk]
    settled = min(amount, -receivable.balance)
    return [Leg(receivable, settled), Leg(account, amount - settled)]


def taken_back(account: Account, amount: int, *, beside: Sequence[Account] = ()) -> list[Leg]:
    """Legs that take `amount` out of `account`; what is not there any more is owed by its owner.

    Call it in the transaction of the entry; `beside` as for `incoming`.
    """
    receivable = account_for(Account.Kind.RECEIVABLE, account.owner_id)
    there = min(amount, lock_accounts([account, receivable, *beside])[account.pk].balance)
    return [Leg(account, -there), Leg(receivable, there - amount)]


def settle_receivables(*, at: datetime) -> int:
    """Settle what is owed from what has become spendable since, for example by a released hold.

    Each in a transaction of its own; returns how many.
    """
    owing = Account.objects.filter(kind=Account.Kind.RECEIVABLE, balance__lt=0)
    spendable = Account.objects.filter(
        kind=Account.Kind.USER, balance__gt=0, owner_id__in=owing.values("owner_id")
    )
    owners = list(spendable.values_list("owner_id", flat=True)[:SWEEP])
    return sum(_settle(owner_id, at) for owner_id in owners if owner_id is not None)


def tell(*, account: Account, title: str, body: str, alarm: str, at: datetime) -> None:
    """Tell the account's owner of what the chain undid, and staff, whom `alarm` is for."""
    owner = User.objects.filter(pk=account.owner_id).first() if account.owner_id else None
    if owner is not None:
        notify(
            user=owner, kind="ledger.deposit_undone", url="/wallet/", at=at, title=title, body=body
        )
    alarm_staff(
        title=alarm,
        body=body if owner is None else "",
        url=f"/explorer/accounts/{account.pk}/",
        at=at,
    )


@transaction.atomic
def _settle(owner_id: UUID, at: datetime) -> int:
    user = account_for(Account.Kind.USER, owner_id)
    receivable = account_for(Account.Kind.RECEIVABLE, owner_id)
    locked = lock_accounts([user, receivable])
    amount = min(locked[user.pk].balance, -locked[receivable.pk].balance)
    if amount <= 0:
        return 0
    # Nothing asks for this twice: the balances, which are locked, say whether it was done.
    entry = post_entry(
        kind=Entry.Kind.RECOVERY,
        key=f"recovery:{receivable.pk}:{_rounds(receivable)}",
        at=at,
        legs=[Leg(user, -amount), Leg(receivable, amount)],
    )
    audit.record(
        actor=None,
        verb="ledger.receivable_settled",
        target=entry,
        at=at,
        data={"amount": str(amount), "user": str(owner_id)},
    )
    events.emit(
        "ledger.receivable_settled", {"user_id": str(owner_id), "amount": str(amount)}, at=at
    )
    return 1


def _rounds(receivable: Account) -> int:
    return receivable.postings.count()
