"""Moving one's own money between one's own accounts."""

from datetime import datetime

from django.db import transaction

from accounts import audit
from accounts.models import User
from ledger.models import Account, Entry
from ledger.services.opening import account_for
from ledger.services.posting import Leg, check_amount, post_entry
from ledger.services.receivables import check_may_spend


@transaction.atomic
def make_earnings_spendable(
    *, user: User, amount: int, key: str, acting_user: User | None, at: datetime
) -> Entry:
    """Move `amount` wei from the user's earnings to their spendable balance.

    `key` is the request's own: the same key with the same amount moves it once.

    Raises InvalidAmount, SpendingBlocked, InsufficientFunds and IdempotencyConflict.
    """
    check_amount(amount)
    full_key = f"transfer:{user.pk}:{key}"
    known = Entry.objects.filter(idempotency_key=full_key).exists()
    if not known:
        check_may_spend(user.pk)
    entry = post_entry(
        kind=Entry.Kind.TRANSFER,
        key=full_key,
        at=at,
        legs=[
            Leg(account_for(Account.Kind.EARNINGS, user.pk), -amount),
            Leg(account_for(Account.Kind.USER, user.pk), amount),
        ],
        acting_user=acting_user,
    )
    if not known:
        audit.record(
            actor=acting_user,
            verb="ledger.earnings_made_spendable",
            target=entry,
            at=at,
            data={"amount": str(amount)},
        )
    return entry
