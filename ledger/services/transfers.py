"""Moving one's own money between one's own accounts."""

from datetime import datetime

from django.db import transaction

from accounts import audit
from accounts.models import User
from ledger.errors import IdempotencyConflict
from ledger.models import Account, Entry
from ledger.services.opening import account_for
from ledger.services.posting import Leg, check_amount, post_entry
from ledger.services.receivables import incoming


@transaction.atomic
def make_earnings_spendable(
    *, user: User, amount: int, key: str, acting_user: User | None, at: datetime
) -> Entry:
    """Move `amount` wei from the user's earnings to their spendable balance.

    What the user owes is settled of it first. `key` is the request's own: the same key with the
    same amount moves it once.

    Raises InvalidAmount, InsufficientFunds and IdempotencyConflict.
    """
    check_amount(amount)
    full_key = f"transfer:{user.pk}:{key}"
    spendable = account_for(Account.Kind.USER, user.pk)
    _lock_of(user)
    legs = incoming(spendable, amount)
    known = _moved(full_key, amount)
    if known is not None:
        return known
    entry = post_entry(
        kind=Entry.Kind.TRANSFER,
        key=full_key,
        at=at,
        legs=[
            Leg(account_for(Account.Kind.EARNINGS, user.pk), -amount),
            *legs,
        ],
        acting_user=acting_user,
    )
    audit.record(
        actor=acting_user,
        verb="ledger.earnings_made_spendable",
        target=entry,
        at=at,
        data={"amount": str(amount), "settled": str(amount - legs[-1].amount)},
    )
    return entry


def _lock_of(user: User) -> None:
    """In the order of their ids, as entries lock them, so that nobody waits in a circle."""
    kinds = [Account.Kind.USER, Account.Kind.EARNINGS, Account.Kind.RECEIVABLE]
    mine = Account.objects.select_for_update(no_key=True).filter(owner_id=user.pk, kind__in=kinds)
    list(mine.order_by("pk").values_list("pk"))


def _moved(key: str, amount: int) -> Entry | None:
    """What was moved under this key before; how it was divided depends on what was owed then."""
    entry = Entry.objects.filter(idempotency_key=key).first()
    if entry is None:
        return None
    taken = entry.postings.filter(account__kind=Account.Kind.EARNINGS)
    if -sum(posting.amount for posting in taken) != amount:
        raise IdempotencyConflict("This key was used for another amount; use a new key.")
    return entry
