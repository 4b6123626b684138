"""Stakes and bonds as entries: locked, given back, slashed. Who may do so is the caller's rule.

The row lock of the stake makes a slash and a return wait for each other; its account can hold no
more than what was locked, so neither can take twice.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import audit
from accounts.ids import uuid7
from accounts.models import User
from ledger.errors import InsufficientFunds, InvalidAmount, SpendingBlocked, StakeClosed
from ledger.models import Account, Entry, Stake
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, Refs, check_amount, post_entry
from ledger.services.receivables import check_may_spend
from ledger.words import open_text

__all__ = [
    "InsufficientFunds",
    "InvalidAmount",
    "SpendingBlocked",
    "StakeClosed",
    "lock_stake",
    "return_stake",
    "slash_stake",
]


@transaction.atomic
def lock_stake(
    *,
    staker: User,
    amount: int,
    cause_kind: str,
    cause_id: UUID,
    acting_user: User | None,
    at: datetime,
    datanet_id: UUID | None = None,
    parameter_version: int | None = None,
) -> Stake:
    """Take `amount` wei of the staker's spendable balance into an account of the stake's own.

    Raises InvalidAmount, SpendingBlocked, InsufficientFunds, and IntegrityError where the cause has
    one locked.
    """
    check_amount(amount)
    check_may_spend(staker.pk)
    identifier = uuid7()
    refs = Refs(datanet=datanet_id)
    entry = post_entry(
        kind=Entry.Kind.STAKE,
        key=f"stake:{identifier}",
        at=at,
        legs=[
            Leg(account_for(Account.Kind.USER, staker.pk), -amount, refs),
            Leg(account_for(Account.Kind.STAKE, identifier), amount, refs),
        ],
        cause=Cause(cause_kind, cause_id),
        parameter_version=parameter_version,
        acting_user=acting_user,
    )
    stake = Stake.objects.create(
        id=identifier,
        staker=staker,
        amount=amount,
        cause_kind=cause_kind,
        cause_id=cause_id,
        opened_by=entry,
    )
    _audit("ledger.stake_locked", stake, entry, amount, acting_user, at)
    return stake


@transaction.atomic
def return_stake(*, stake: Stake, acting_user: User | None, at: datetime) -> Entry:
    """Give what is left back to the staker and close the stake; asked twice, once.

    Raises StakeClosed where all of it was slashed.
    """
    stake = _locked(stake)
    if stake.state == Stake.State.CLOSED:
        if not stake.returned or stake.closed_by is None:
            raise StakeClosed("Nothing of this stake is left: it was slashed.")
        return stake.closed_by
    amount = stake.left
    entry = post_entry(
        kind=Entry.Kind.UNSTAKE,
        key=f"unstake:{stake.pk}",
        at=at,
        legs=[
            Leg(account_for(Account.Kind.STAKE, stake.pk), -amount),
            Leg(account_for(Account.Kind.USER, stake.staker_id), amount),
        ],
        cause=Cause(stake.cause_kind, stake.cause_id),
        acting_user=acting_user,
    )
    stake.returned = amount
    _close(stake, entry, at)
    _audit("ledger.stake_returned", stake, entry, amount, acting_user, at)
    return entry


@transaction.atomic
def slash_stake(
    *,
    stake: Stake,
    amount: int,
    treasury_of: UUID,
    cause: Cause,
    acting_user: User | None,
    at: datetime,
) -> Entry:
    """Move `amount` wei of the stake to the treasury of a Datanet; once for each cause.

    The same slash asked for again is answered with its entry. Raises InvalidAmount (zero, or more
    than is left), StakeClosed, IdempotencyConflict (the cause took another amount before).
    """
    check_amount(amount)
    stake = _locked(stake)
    key = f"slash:{stake.pk}:{cause.kind}:{cause.id}"
    known = Entry.objects.filter(idempotency_key=key).exists()
    if not known:
        _require_left(stake, amount)
    refs = Refs(datanet=treasury_of)
    entry = post_entry(
        kind=Entry.Kind.SLASH,
        key=key,
        at=at,
        legs=[
            Leg(account_for(Account.Kind.STAKE, stake.pk), -amount, refs),
            Leg(account_for(Account.Kind.TREASURY, treasury_of), amount, refs),
        ],
        cause=cause,
        acting_user=acting_user,
    )
    if not known:
        stake.slashed += amount
        if stake.left:
            stake.save(update_fields=["slashed"])
        else:
            _close(stake, entry, at)
        _audit("ledger.stake_slashed", stake, entry, amount, acting_user, at)
    return entry


def _locked(stake: Stake) -> Stake:
    return Stake.objects.select_for_update(of=("self",)).get(pk=stake.pk)


def _require_left(stake: Stake, amount: int) -> None:
    if stake.state == Stake.State.CLOSED:
        raise StakeClosed("This stake is closed; nothing of it can be taken any more.")
    if amount > stake.left:
        raise InvalidAmount(
            f"{open_text(stake.left)} OPEN of this stake are left; a slash takes no more."
        )


def _close(stake: Stake, entry: Entry, at: datetime) -> None:
    stake.state, stake.closed_by, stake.closed_at = Stake.State.CLOSED, entry, at
    stake.save(update_fields=["state", "slashed", "returned", "closed_by", "closed_at"])


def _audit(
    verb: str, stake: Stake, entry: Entry, amount: int, acting_user: User | None, at: datetime
) -> None:
    audit.record(
        actor=acting_user,
        verb=verb,
        target=stake,
        at=at,
        data={
            "amount": str(amount),
            "entry": str(entry.pk),
            "cause": [stake.cause_kind, str(stake.cause_id)],
        },
    )
