"""OPEN that comes in: by the Gateway contract, or granted where there is no chain."""

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from accounts import audit, events
from accounts.models import User
from accounts.notifications import notify
from ledger.errors import IdempotencyConflict, LimitReached, WaitingForChain
from ledger.models import Account, Deposit, Entry, Posting
from ledger.services.locking import lock_accounts
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, check_amount, post_entry
from ledger.services.receivables import incoming, taken_back, tell
from ledger.words import WEI_PER_OPEN, open_text

logger = logging.getLogger(__name__)
GRANT_PER_DAY = 1_000 * WEI_PER_OPEN


@transaction.atomic
def credit_deposit(
    *, account_id: UUID, amount: int, chain_id: int, tx_hash: str, log_index: int, at: datetime
) -> Entry:
    """Credit a deposit that the Gateway contract took in; once per transaction and log.

    `account_id` is the USER account that the payer named. A deposit that names no account of
    ours is kept on the UNASSIGNED account, since the OPEN lies in the contract all the same. What
    the owner owes is settled first. One that had vanished is put back, once.

    Raises InvalidAmount and IdempotencyConflict (the same log with another amount).
    """
    check_amount(amount)
    named = Account.objects.filter(pk=account_id, kind=Account.Kind.USER).first()
    if named is None:
        logger.warning("deposit %s:%s names no account of ours: %s", tx_hash, log_index, account_id)
    account = named or account_for(Account.Kind.UNASSIGNED)
    place = {"chain_id": chain_id, "tx_hash": tx_hash.lower(), "log_index": log_index}
    known = _deposit(place)
    if known is not None:
        if (known.account_id, known.amount) != (account.pk, amount):
            raise IdempotencyConflict(f"{tx_hash} was credited with another amount.")
        return known.entry if known.state == Deposit.State.CREDITED else _put_back(known, at)
    gateway = account_for(Account.Kind.GATEWAY)
    entry = post_entry(
        kind=Entry.Kind.DEPOSIT,
        key=f"deposit:{chain_id}:{tx_hash.lower()}:{log_index}",
        at=at,
        cause=Cause("deposit", account_id),
        legs=[Leg(gateway, -amount), *incoming(account, amount, beside=[gateway])],
    )
    Deposit.objects.create(**place, account=account, amount=amount, entry=entry, created_at=at)
    _announce(entry, named, amount, at)
    return entry


@transaction.atomic
def undo_deposit(*, chain_id: int, tx_hash: str, log_index: int, at: datetime) -> Entry | None:
    """The block of a credited deposit is gone from the chain: take it back.

    What is still spendable goes; the rest is owed by the owner, who spends nothing until it is
    settled. None where nothing was credited, or it was taken back before.
    """
    place = {"chain_id": chain_id, "tx_hash": tx_hash.lower(), "log_index": log_index}
    deposit = _deposit(place)
    if deposit is None or deposit.state != Deposit.State.CREDITED:
        return None
    gateway = account_for(Account.Kind.GATEWAY)
    legs = taken_back(deposit.account, deposit.amount, beside=[gateway])
    entry = post_entry(
        kind=Entry.Kind.UNDONE,
        key=f"undone:{deposit.pk}:{deposit.undone}",
        at=at,
        cause=Cause("deposit", deposit.account_id),
        legs=[Leg(gateway, deposit.amount), *legs],
    )
    deposit.state, deposit.vanished_at = Deposit.State.VANISHED, at
    deposit.undone += 1
    deposit.save(update_fields=["state", "vanished_at", "undone"])
    _tell_of_undoing(deposit, entry, spent=-legs[1].amount, at=at)
    return entry


def _put_back(deposit: Deposit, at: datetime) -> Entry:
    """The transaction came again, in another block."""
    gateway = account_for(Account.Kind.GATEWAY)
    entry = post_entry(
        kind=Entry.Kind.DEPOSIT,
        key=f"again:{deposit.pk}:{deposit.undone}",
        at=at,
        cause=Cause("deposit", deposit.account_id),
        legs=[
            Leg(gateway, -deposit.amount),
            *incoming(deposit.account, deposit.amount, beside=[gateway]),
        ],
    )
    deposit.state, deposit.vanished_at = Deposit.State.CREDITED, None
    deposit.save(update_fields=["state", "vanished_at"])
    named = deposit.account if deposit.account.kind == Account.Kind.USER else None
    _announce(entry, named, deposit.amount, at)
    return entry


def _deposit(place: dict[str, Any]) -> Deposit | None:
    return (
        Deposit.objects.select_for_update(of=("self",))
        .select_related("account", "entry")
        .filter(**place)
        .first()
    )


@transaction.atomic
def grant_without_chain(
    *, user: User, amount: int, acting_user: User | None, key: str, at: datetime
) -> Entry:
    """Give OPEN of this instance's own making, where no chain backs it.

    Raises WaitingForChain where a chain is configured (OPEN comes from there), LimitReached over
    1,000 OPEN in 24 hours, InvalidAmount and IdempotencyConflict.
    """
    check_amount(amount)
    if settings.CHAIN_ENABLED:
        raise WaitingForChain("This instance has a chain: deposit OPEN through its Gateway.")
    account, issued = account_for(Account.Kind.USER, user.pk), account_for(Account.Kind.ISSUED)
    # The row lock makes two grants at once wait for each other, so that the limit holds.
    lock_accounts([account, issued])
    known = Entry.objects.filter(idempotency_key=f"grant:{user.pk}:{key}").exists()
    granted = (
        Posting.objects.filter(
            account=account,
            entry__kind=Entry.Kind.GRANT,
            entry__effective_at__gt=at - timedelta(days=1),
        ).aggregate(total=Sum("amount"))["total"]
        or 0
    )
    if not known and granted + amount > GRANT_PER_DAY:
        raise LimitReached(
            f"At most {open_text(GRANT_PER_DAY)} OPEN are given out in 24 hours; "
            f"{open_text(GRANT_PER_DAY - granted)} are left."
        )
    entry = post_entry(
        kind=Entry.Kind.GRANT,
        key=f"grant:{user.pk}:{key}",
        at=at,
        legs=[Leg(issued, -amount), Leg(account, amount)],
        acting_user=acting_user,
    )
    if not known:
        audit.record(
            actor=acting_user,
            verb="ledger.granted",
            target=entry,
            at=at,
            data={"amount": str(amount), "user": str(user.pk)},
        )
    return entry


def _announce(entry: Entry, account: Account | None, amount: int, at: datetime) -> None:
    audit.record(
        actor=None,
        verb="ledger.deposit_credited",
        target=entry,
        at=at,
        data={"amount": str(amount)},
    )
    events.emit(
        "ledger.deposit_credited",
        {
            "entry_id": str(entry.pk),
            "amount": str(amount),
            "user_id": str(account.owner_id) if account else None,
        },
        at=at,
    )
    owner_id = account.owner_id if account else None
    owner = User.objects.filter(pk=owner_id).first() if owner_id else None
    if owner is not None:
        notify(
            user=owner,
            kind="ledger.deposit_credited",
            url="/wallet/",
            at=at,
            title=f"{open_text(amount)} OPEN arrived in your balance",
        )


def _tell_of_undoing(deposit: Deposit, entry: Entry, *, spent: int, at: datetime) -> None:
    amount, owner_id = deposit.amount, deposit.account.owner_id
    audit.record(
        actor=None,
        verb="ledger.deposit_undone",
        target=entry,
        at=at,
        data={"amount": str(amount), "owed": str(spent), "tx": deposit.tx_hash},
    )
    events.emit(
        "ledger.deposit_undone",
        {
            "entry_id": str(entry.pk),
            "amount": str(amount),
            "owed": str(spent),
            "user_id": str(owner_id) if owner_id else None,
        },
        at=at,
    )
    owed = (
        f" {open_text(spent)} OPEN of it were spent already and are owed now: deposit that much, "
        "or wait for the transaction to come again. Until then nothing can be spent."
        if spent
        else " Nothing of it was spent; it comes back with its transaction."
    )
    tell(
        account=deposit.account,
        at=at,
        title=f"A deposit of {open_text(amount)} OPEN was undone by the chain",
        body=f"The chain dropped the block of transaction {deposit.tx_hash}.{owed}",
        alarm=f"The chain undid a credited deposit; {open_text(spent)} OPEN are owed",
    )
