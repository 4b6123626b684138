"""Opening accounts. An account is opened by the first entry that needs it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString
from uuid import UUID

from django.db import connection

from accounts import prepared
from ledger.fees import Portion
from ledger.models import Account
from ledger.services import writing
from ledger.services.posting import Leg

# Kind, owner, shard
Place = tuple[str, UUID | None, int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account by kind and owner; `cause` chooses the row where the kind has several."""

    kind: Account.Kind
    owner_id: UUID | None = None
    cause: UUID | None = None

    @property
    def place(self) -> tuple[str, UUID | None, int]:
        return (str(self.kind), self.owner_id, Account.shard_for(self.kind, self.cause))


def account_for(
    kind: Account.Kind, owner_id: UUID | None = None, *, cause: UUID | None = None
) -> Account:
    """Return the account of that kind and owner, opened where it was not yet.

    Of an account that is kept in several rows, the one that `cause` (what the entry is written
    for) pays into.
    """
    wanted = Wanted(kind, owner_id, cause)
    return open_accounts([wanted])[wanted]


def accounts_for(
    kind: Account.Kind, owner_ids: Iterable[UUID | None], *, cause: UUID | None = None
) -> dict[UUID | None, Account]:
    """Return the accounts of that kind for all owners, in few statements whatever their number."""
    found = open_accounts([Wanted(kind, owner_id, cause) for owner_id in owner_ids])
    return {wanted.owner_id: account for wanted, account in found.items()}


def legs_of_many(portions: Mapping[UUID, Iterable[Portion]]) -> dict[UUID, list[Leg]]:
    """Legs for the portions of what each cause (its id) moves; portions of nothing are left out.

    The accounts of all causes are found together, and opened where they were not yet.
    """
    wanted: list[tuple[UUID, Portion, Place]] = [
        (
            cause,
            portion,
            (str(portion.kind), portion.owner_id, Account.shard_for(portion.kind, cause)),
        )
        for cause, of_cause in portions.items()
        for portion in of_cause
        if portion.amount
    ]
    accounts = _opened({place for _, _, place in wanted})
    legs: dict[UUID, list[Leg]] = {cause: [] for cause in portions}
    for cause, portion, place in wanted:
        legs[cause].append(Leg(accounts[place], portion.amount, portion.refs))
    return legs


def open_accounts(wanted: Sequence[Wanted]) -> dict[Wanted, Account]:
    """Return all accounts that are asked for: one statement where they are there, three if not."""
    found = _opened({one.place for one in wanted})
    return {one: found[one.place] for one in wanted}


def _opened(places: set[Place]) -> dict[Place, Account]:
    found = _find(places)
    missing = sorted(places - set(found), key=str)
    if missing:
        # Sorted, so that two transactions that open the same accounts do not wait in a circle.
        Account.objects.bulk_create(
            [
                Account(kind=kind, owner_id=owner, shard=shard, overdraft=kind in Account.EXTERNAL)
                for kind, owner, shard in missing
            ],
            ignore_conflicts=True,
        )
        found |= _find(set(missing))
    return found


# Each place by the unique index of accounts; what stands for OPEN of the house has no owner.
FIND: Final[LiteralString] = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::varchar[], $2::uuid[], $3::int[]) AS w (kind, owner_id, shard)
)
SELECT a.id, a.created_at, a.kind, a.owner_id, a.shard, a.overdraft, a.balance
FROM wanted w JOIN ledger_account a
    ON a.kind = w.kind AND a.owner_id = w.owner_id AND a.shard = w.shard
UNION ALL
SELECT a.id, a.created_at, a.kind, a.owner_id, a.shard, a.overdraft, a.balance
FROM wanted w JOIN ledger_account a
    ON a.kind = w.kind AND a.owner_id IS NULL AND w.owner_id IS NULL AND a.shard = w.shard
"""
COLUMNS = ("id", "created_at", "kind", "owner_id", "shard", "overdraft", "balance")


def _find(places: set[Place]) -> dict[Place, Account]:
    """Prepared once for each connection: every entry begins with it."""
    if not places:
        return {}
    wanted = list(places)
    values = [
        writing.array(kind for kind, _, _ in wanted),
        writing.ids(owner for _, owner, _ in wanted),
        writing.array(shard for _, _, shard in wanted),
    ]
    found = {}
    for *known, balance in prepared.fetch(FIND, values):
        row = Account.from_db(connection.alias, COLUMNS, (*known, int(balance)))
        found[row.kind, row.owner_id, row.shard] = row
    return found
