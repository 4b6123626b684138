"""OPEN that comes in: by the Gateway contract, or granted where there is no chain."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from accounts import audit, events
from accounts.models import User
from accounts.notifications import notify
from ledger.errors import LimitReached, WaitingForChain
from ledger.models import Account, Entry, Posting
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, check_amount, post_entry
from ledger.words import WEI_PER_OPEN, open_text

logger = logging.getLogger(__name__)
GRANT_PER_DAY = 1_000 * WEI_PER_OPEN


@transaction.atomic
def credit_deposit(
    *, account_id: UUID, amount: int, chain_id: int, tx_hash: str, log_index: int, at: datetime
) -> Entry:
    """Credit a deposit that the Gateway contract took in; once per transaction and log.

    `account_id` is the USER account that the payer named. A deposit that names no account of
    ours is kept on the UNASSIGNED account, since the OPEN lies in the contract all the same.

    Raises InvalidAmount and IdempotencyConflict (the same log with another amount).
    """
    check_amount(amount)
    account = Account.objects.filter(pk=account_id, kind=Account.Kind.USER).first()
    if account is None:
        logger.warning("deposit %s:%s names no account of ours: %s", tx_hash, log_index, account_id)
    key = f"deposit:{chain_id}:{tx_hash.lower()}:{log_index}"
    known = Entry.objects.filter(idempotency_key=key).exists()
    entry = post_entry(
        kind=Entry.Kind.DEPOSIT,
        key=key,
        at=at,
        cause=Cause("deposit", account_id),
        legs=[
            Leg(account_for(Account.Kind.GATEWAY), -amount),
            Leg(account or account_for(Account.Kind.UNASSIGNED), amount),
        ],
    )
    if not known:
        _announce(entry, account, amount, at)
    return entry


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
    account = account_for(Account.Kind.USER, user.pk)
    # The row lock makes two grants at once wait for each other, so that the limit holds.
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
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
        legs=[Leg(account_for(Account.Kind.ISSUED), -amount), Leg(account, amount)],
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
