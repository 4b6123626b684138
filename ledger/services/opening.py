"""Opening accounts. An account is opened by the first entry that needs it."""

from collections.abc import Iterable
from uuid import UUID

from ledger.models import Account


def account_for(kind: Account.Kind, owner_id: UUID | None = None) -> Account:
    """Return the account of that kind and owner, opened where it was not yet."""
    found = Account.objects.filter(kind=kind, owner_id=owner_id).first()
    return found or accounts_for(kind, [owner_id])[owner_id]


def accounts_for(
    kind: Account.Kind, owner_ids: Iterable[UUID | None]
) -> dict[UUID | None, Account]:
    """Return the accounts of that kind for all owners, in two statements whatever their number."""
    owners = sorted(set(owner_ids), key=str)
    # Sorted, so that two transactions that open the same accounts do not wait in a circle.
    Account.objects.bulk_create(
        [
            Account(kind=kind, owner_id=owner, overdraft=kind in Account.EXTERNAL)
            for owner in owners
        ],
        ignore_conflicts=True,
    )
    if owners == [None]:
        return {None: Account.objects.get(kind=kind, owner_id=None)}
    rows = Account.objects.filter(kind=kind, owner_id__in=owners)
    return {row.owner_id: row for row in rows}
