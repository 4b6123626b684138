"""Small earnings that are sent to the wallet instead of published, for those who asked for it.

A push leaves the earnings in an entry of its own before the epoch is gathered, and goes out through
the Gateway in the batches of `payouts` (300 at most). So what is pushed is never published, and
what the chain refuses comes back to the earnings.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import OuterRef, Subquery

from accounts import audit
from accounts.ids import uuid7
from accounts.models import Wallet
from ledger.errors import LedgerError
from ledger.governed import governed
from ledger.models import Account, PayoutChoice
from ledger.onchain import current_deployment
from ledger.services.locking import lock_accounts
from ledger.services.opening import accounts_for
from ledger.services.posting import Cause
from ledger.services.withdrawals import request_payout

# Rows of one transaction: a batch's worth.
AT_ONCE = 300


def push_small_earnings(*, at: datetime) -> int:
    """Push all earnings below the governed `payout.push_below` whose owner asked for it.

    Returns how many. Nothing without a chain: what is small is then published with the rest.
    """
    if current_deployment() is None:
        return 0
    pushed = 0
    last = None
    while rows := _small(after=last):
        pushed += _push(rows, at)
        last = rows[-1].pk
    return pushed


def _small(after: object) -> list[Account]:
    """The next accounts that are pushed, in the order of their ids, with the wallet of each."""
    wallets = Wallet.objects.filter(user_id=OuterRef("owner_id")).order_by(
        "-is_primary", "-created_at"
    )
    wanted = PayoutChoice.objects.filter(push=True).values("user_id")
    found = Account.objects.filter(
        kind=Account.Kind.EARNINGS,
        balance__gte=max(1, governed("payout.push_minimum")),
        balance__lt=governed("payout.push_below"),
        owner_id__in=wanted,
    ).annotate(wallet=Subquery(wallets.values("address")[:1]))
    if after is not None:
        found = found.filter(pk__gt=after)
    return list(found.exclude(wallet=None).order_by("pk")[:AT_ONCE])


@transaction.atomic
def _push(rows: list[Account], at: datetime) -> int:
    under_way = accounts_for(Account.Kind.WITHDRAWING, [row.owner_id for row in rows])
    lock_accounts([*rows, *under_way.values()])
    pushed = 0
    for row in rows:
        push = uuid7()
        # The account may have been emptied since it was read; the entry looks under its lock.
        try:
            withdrawal = request_payout(
                source=row,
                address=row.wallet,  # type: ignore[attr-defined]
                amount=row.balance,
                key=f"push:{push}",
                cause=Cause("push", push),
                acting_user=None,
                at=at,
            )
        except LedgerError:
            continue
        audit.record(
            actor=None,
            verb="ledger.earnings_pushed",
            target=withdrawal,
            at=at,
            data={"address": withdrawal.address, "amount": str(withdrawal.amount)},
        )
        pushed += 1
    return pushed
