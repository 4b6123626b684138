"""Asking for OPEN to be paid to a wallet. The way to the chain is in `payouts`.

The money leaves the spendable balance or the earnings in the entry of the request and lies in the
owner's WITHDRAWING account until the chain has paid it, so no wei can be spent and paid as well.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from accounts import audit, events
from accounts.models import User
from ledger.chain.addresses import is_address, to_checksum
from ledger.errors import (
    IdempotencyConflict,
    InvalidEntry,
    LimitReached,
    UnknownAccount,
)
from ledger.models import Account, Entry, Withdrawal
from ledger.onchain import require_deployment
from ledger.services.locking import lock_accounts
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, check_amount, post_entry
from ledger.services.receivables import check_may_spend
from ledger.words import open_text

# Where a withdrawal may come from.
SOURCES = (Account.Kind.USER, Account.Kind.EARNINGS)
BY_ITS_OWNER = "withdrawal"


@transaction.atomic
def request_withdrawal(
    *,
    user: User,
    source: Account.Kind,
    address: str,
    amount: int,
    key: str,
    acting_user: User,
    at: datetime,
) -> Withdrawal:
    """Pay `amount` wei of the user's spendable balance or earnings to one of their wallets.

    `key` is the request's own: asked twice, it is paid once.

    Raises InvalidAmount, UnknownAccount (no wallet of this user), LimitReached (below the minimum,
    over the limit of 24 hours), SpendingBlocked, InsufficientFunds, WaitingForChain and
    IdempotencyConflict.
    """
    check_amount(amount)
    full_key = f"{user.pk}:{key}"
    wallet = user.wallets.filter(address__iexact=address).first()
    if wallet is None:
        raise UnknownAccount("Link this wallet to your account first; then withdraw to it.")
    account = account_for(source, user.pk)
    known = Withdrawal.objects.filter(key=full_key).exists()
    if not known:
        # The row lock makes two requests at once wait for each other, so that the limit holds.
        lock_accounts([account, account_for(Account.Kind.WITHDRAWING, user.pk)])
        _check_limits(user, amount, at)
    withdrawal = request_payout(
        source=account,
        address=wallet.address,
        amount=amount,
        key=full_key,
        cause=None,
        acting_user=acting_user,
        at=at,
    )
    if not known:
        audit.record(
            actor=acting_user,
            verb="ledger.withdrawal_requested",
            target=withdrawal,
            at=at,
            data={"address": withdrawal.address, "amount": str(amount), "from": str(source)},
        )
    return withdrawal


@transaction.atomic
def request_payout(
    *,
    source: Account,
    address: str,
    amount: int,
    key: str,
    cause: Cause | None,
    acting_user: User | None,
    at: datetime,
) -> Withdrawal:
    """Have `amount` wei of a user's account `source` paid to `address`, in the next batch.

    For pushes as for withdrawals: no limits are looked at. `cause` says what it is paid for, where
    it is more than the owner's wish. Asked again under `key`, the first one is returned.

    Raises InvalidAmount, InvalidEntry (an account that belongs to no user, no address),
    SpendingBlocked, InsufficientFunds, WaitingForChain and IdempotencyConflict (the key with other
    values).
    """
    check_amount(amount)
    if source.kind not in SOURCES or source.owner_id is None:
        raise InvalidEntry("Only a person's spendable balance or earnings are paid to a wallet.")
    if not is_address(address):
        raise InvalidEntry(f"{address!r} is no address.")
    known = Withdrawal.objects.filter(key=key).first()
    if known is not None:
        return _same(known, source, address, amount)
    require_deployment()
    check_may_spend(source.owner_id)
    withdrawal = Withdrawal(
        key=key,
        user_id=source.owner_id,
        source=source,
        address=to_checksum(address),
        amount=amount,
        cause_kind=cause.kind if cause else BY_ITS_OWNER,
        cause_id=cause.id if cause else None,
        created_at=at,
    )
    # Two requests under one key wait here for each other, at the key of the entry.
    withdrawal.entry = post_entry(
        kind=Entry.Kind.WITHDRAWAL,
        key=f"withdrawal:{key}",
        at=at,
        legs=[
            Leg(source, -amount),
            Leg(account_for(Account.Kind.WITHDRAWING, source.owner_id), amount),
        ],
        acting_user=acting_user,
    )
    known = Withdrawal.objects.filter(key=key).first()
    if known is not None:
        return _same(known, source, address, amount)
    withdrawal.save(force_insert=True)
    events.emit(
        "ledger.withdrawal_requested",
        {
            "withdrawal_id": str(withdrawal.pk),
            "user_id": str(withdrawal.user_id),
            "amount": str(amount),
        },
        at=at,
    )
    return withdrawal


def withdrawn_in_a_day(user: User, at: datetime) -> int:
    """Wei that the user asked for in the last 24 hours and that did not come back."""
    recent = Withdrawal.objects.filter(
        user=user, cause_kind=BY_ITS_OWNER, created_at__gt=at - timedelta(days=1)
    ).exclude(state__in=Withdrawal.RETURNED)
    return int(recent.aggregate(total=Sum("amount"))["total"] or 0)


def _check_limits(user: User, amount: int, at: datetime) -> None:
    minimum, limit = settings.WITHDRAWAL_MINIMUM_WEI, settings.WITHDRAWAL_DAY_LIMIT_WEI
    if amount < minimum:
        raise LimitReached(
            f"Withdraw {open_text(minimum)} OPEN or more at a time: the gas of less would cost "
            "more than it is worth. Nothing expires; wait until more has gathered."
        )
    left = max(0, limit - withdrawn_in_a_day(user, at))
    if amount > left:
        raise LimitReached(
            f"At most {open_text(limit)} OPEN leave an account in 24 hours; "
            f"{open_text(left)} OPEN are left for now."
        )


def _same(known: Withdrawal, source: Account, address: str, amount: int) -> Withdrawal:
    asked: tuple[UUID, str, int] = (source.pk, to_checksum(address), amount)
    if (known.source_id, known.address, known.amount) != asked:
        raise IdempotencyConflict("This key was used for another withdrawal; use a new key.")
    return known
