"""The order in which rows are locked, so that no two transactions wait in a circle.

1. the advisory locks of `taking_turns` and of a worker that runs alone;
2. what the money is about: a completion, a hold, a withdrawal, a stake, several by their ids;
3. the payer's budget, then their rule for topping up;
4. accounts, **all that the transaction will touch at once**, in the order of their ids.

An entry takes the locks of its own accounts in that order. A transaction that looks at a balance
first, or writes several entries, asks here for the accounts of all of them beforehand: a lock that
it took earlier on one of them alone would stand outside the order.
"""

from collections.abc import Iterable
from uuid import UUID

from ledger.models import Account


def lock_accounts(accounts: Iterable[Account]) -> dict[UUID, Account]:
    """The accounts as they are now, by id, locked until the transaction ends."""
    rows = Account.objects.select_for_update(no_key=True).filter(
        pk__in={account.pk for account in accounts}
    )
    return {row.pk: row for row in rows.order_by("pk")}
