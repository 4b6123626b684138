"""The rows of a publication, written by the database: a statement for all accounts, not one each.

A publication goes through the earnings accounts in the order of their ids, some thousand in a
transaction. Who of them is owed what lies in a temporary table of the transaction
(`publication_owed`), one row an account; everything else is selected from it. Nothing of it passes
through Python, so memory does not grow with the number of accounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from django.db import connection

from accounts.models import User
from ledger.models import Account, Entry
from ledger.services.posting import Cause

# A UUIDv7 (RFC 9562) of this moment: a random one with the milliseconds and the version put in.
_UUID7: LiteralString = """
overlay(overlay(replace(gen_random_uuid()::text, '-', '') placing
    lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') from 1 for 12)
    placing '7' from 13 for 1)::uuid
"""


@dataclass(frozen=True, slots=True)
class Owed:
    """What `publication_owed` adds up to: wei that are published, and relay fees set aside.

    `until` is the last account that was looked at; after it there are no more where `is_last`.
    """

    accounts: int
    amount: int
    payers: int
    fees: int
    until: UUID | None
    is_last: bool


@contextmanager
def by_index() -> Iterator[None]:
    """Each row of the transaction's table is looked up in the others, whatever their statistics
    say: they do not know of the rows that this publication has written, and a plan that reads a
    whole table for some thousand accounts costs as much again for each next thousand.
    """
    for kind in PLANS:
        _run("SET LOCAL " + kind + " = off", {})
    yield
    # Where it raised, the transaction goes and takes these along.
    for kind in PLANS:
        _run("SET LOCAL " + kind + " TO DEFAULT", {})


PLANS: tuple[LiteralString, ...] = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")


def gather(
    *, minimum: int, fee: int, after: UUID | None, at_most: int, distribution_id: UUID | None
) -> Owed:
    """Lock the next `at_most` earnings accounts of `minimum` wei and more whose owners have a
    wallet and owe the house nothing, from that `after` on.

    `fee` wei are set aside of those who chose to have claims sent in their stead for as much and
    have no fee set aside yet, where what is unclaimed then is worth at least twice as much.
    An address that has its leaf of this epoch already (its wallet went to somebody else a moment
    ago) waits for the next one.

    Locks are taken in the order of the accounts' ids, as every entry takes them.
    """
    _run("DROP TABLE IF EXISTS pg_temp.publication_owed", {})
    _run(
        """
        CREATE TEMPORARY TABLE publication_owed ON COMMIT DROP AS
        SELECT a.id AS account_id, a.owner_id AS user_id, wallet.address, a.balance AS amount,
               NULL::uuid AS payee_id, 0::numeric(78, 0) AS fee
        FROM ledger_account a
        CROSS JOIN LATERAL (
            SELECT w.address FROM accounts_wallet w WHERE w.user_id = a.owner_id
            ORDER BY w.is_primary DESC, w.created_at DESC LIMIT 1
        ) wallet
        WHERE a.kind = 'EARNINGS' AND a.balance >= %(minimum)s AND a.id > %(after)s
          AND NOT EXISTS (
              SELECT FROM ledger_account o
              WHERE o.kind = 'RECEIVABLE' AND o.owner_id = a.owner_id AND o.balance < 0
          )
        ORDER BY a.id LIMIT %(at_most)s FOR NO KEY UPDATE OF a
        """,
        {"minimum": max(1, minimum), "after": after or UUID(int=0), "at_most": at_most},
    )
    _run("ANALYZE publication_owed", {})
    seen, until = _row(
        "SELECT count(*), (array_agg(account_id ORDER BY account_id DESC))[1]"
        " FROM publication_owed",
        {},
    )
    _find_payees(distribution_id)
    if fee:
        _set_fees_aside(fee)
    accounts, amount, payers, fees = _row(
        """
        SELECT count(*), coalesce(sum(amount - fee), 0), count(*) FILTER (WHERE fee > 0),
               coalesce(sum(fee), 0)
        FROM publication_owed
        """,
        {},
    )
    return Owed(accounts, int(amount), payers, int(fees), until, is_last=seen < at_most)


def _find_payees(distribution_id: UUID | None) -> None:
    _run(
        """
        INSERT INTO ledger_payoutaddress (id, created_at, address, published, claimed)
        SELECT {uuid}, now(), address, 0, 0
        FROM (SELECT DISTINCT address FROM publication_owed ORDER BY address) new
        ON CONFLICT DO NOTHING
        """,
        {},
    )
    _run(
        """
        UPDATE publication_owed o SET payee_id = (
            SELECT p.id FROM ledger_payoutaddress p WHERE lower(p.address) = lower(o.address)
        )
        """,
        {},
    )
    if distribution_id is not None:
        _run(
            """
            DELETE FROM publication_owed o WHERE EXISTS (
                SELECT FROM ledger_distributionleaf l
                WHERE l.distribution_id = %(distribution)s AND l.payee_id = o.payee_id
            )
            """,
            {"distribution": distribution_id},
        )


def _set_fees_aside(fee: int) -> None:
    """Of one account of an address at most, since one claim pays the address."""
    _run(
        """
        UPDATE publication_owed o SET fee = %(fee)s
        FROM (
            SELECT DISTINCT ON (o.payee_id) o.account_id
            FROM publication_owed o
            JOIN ledger_payoutaddress p ON p.id = o.payee_id
            JOIN ledger_payoutchoice c ON c.user_id = o.user_id
            WHERE c.claims <> 'OWN' AND c.maximum_fee >= %(fee)s
              AND o.amount > %(fee)s
              AND p.published - p.claimed + o.amount >= 2 * %(fee)s
              AND NOT EXISTS (
                  SELECT FROM ledger_relayreserve r
                  WHERE r.payee_id = o.payee_id AND r.state = 'RESERVED'
              )
            ORDER BY o.payee_id, o.account_id
        ) payer
        WHERE payer.account_id = o.account_id
        """,
        {"fee": fee},
    )


def post_fees(
    *,
    owed: Owed,
    relay: Account,
    distribution_id: UUID,
    after: UUID | None,
    at: datetime,
    acting_user: User | None,
) -> Entry:
    """The entry that moves every relay fee out of earnings, and a row for each."""
    entry = _post(
        kind=Entry.Kind.RELAY_FEE,
        key=f"relay-fees:{distribution_id}{_part(after)}",
        into=relay,
        total=owed.fees,
        legs=owed.payers,
        column="fee",
        distribution_id=distribution_id,
        at=at,
        acting_user=acting_user,
    )
    _run(
        """
        INSERT INTO ledger_relayreserve
            (id, created_at, payee_id, user_id, distribution_id, source_id, amount, state, entry_id)
        SELECT {uuid}, %(at)s, payee_id, user_id, %(distribution)s, account_id, fee, 'RESERVED',
               %(entry)s
        FROM publication_owed WHERE fee > 0
        """,
        {"at": at, "distribution": distribution_id, "entry": entry.pk},
    )
    return entry


def post_publication(
    *,
    owed: Owed,
    escrow: Account,
    distribution_id: UUID,
    after: UUID | None,
    at: datetime,
    acting_user: User | None,
) -> Entry:
    """The entry that moves all that is published out of earnings into escrow."""
    return _post(
        kind=Entry.Kind.DISTRIBUTION,
        key=f"distribution:{distribution_id}{_part(after)}",
        into=escrow,
        total=owed.amount,
        legs=owed.accounts,
        column="amount - fee",
        distribution_id=distribution_id,
        at=at,
        acting_user=acting_user,
    )


def _part(after: UUID | None) -> str:
    """What tells the entries of one distribution apart: the account after which each begins."""
    return f":{after}" if after else ""


def write_leaves(*, distribution_id: UUID, at: datetime) -> None:
    """Raise each address's total, and write its leaf and whose earnings went into it."""
    values = {"at": at, "distribution": distribution_id}
    _run(
        """
        WITH added AS (
            SELECT payee_id, sum(amount - fee) AS amount FROM publication_owed GROUP BY payee_id
        ), raised AS (
            UPDATE ledger_payoutaddress p SET published = p.published + added.amount
            FROM added WHERE p.id = added.payee_id
            RETURNING p.id, p.published, added.amount
        )
        INSERT INTO ledger_distributionleaf
            (id, created_at, distribution_id, payee_id, amount, cumulative)
        SELECT {uuid}, %(at)s, %(distribution)s, id, amount, published FROM raised
        """,
        values,
    )
    _run(
        """
        INSERT INTO ledger_distributioncredit
            (id, created_at, distribution_id, user_id, payee_id, amount)
        SELECT {uuid}, %(at)s, %(distribution)s, user_id, payee_id, amount - fee
        FROM publication_owed
        """,
        values,
    )
    _run("DROP TABLE pg_temp.publication_owed", {})


def _post(
    *,
    kind: Entry.Kind,
    key: str,
    into: Account,
    total: int,
    legs: int,
    column: LiteralString,
    distribution_id: UUID,
    at: datetime,
    acting_user: User | None,
) -> Entry:
    """One entry: `column` of each row out of its account, `total` into one account.

    What `posting.post_entry` does for a list of legs. The constraints and triggers are the same,
    the accounts are locked by `gather`; its key is new, so there is no body to compare with, and
    the hash is of the lines `account:amount` in the order of the accounts.
    """
    cause = Cause("distribution", distribution_id)
    (body_hash,) = _row(
        """
        SELECT encode(sha256(convert_to(
            string_agg(account_id || ':' || (%(column)s), E'\\n' ORDER BY account_id), 'UTF8'
        )), 'hex') FROM publication_owed WHERE %(column)s > 0
        """.replace("%(column)s", column),
        {},
    )
    entry = Entry.objects.create(
        kind=kind,
        idempotency_key=key,
        body_hash=body_hash,
        legs=legs + 1,
        cause_kind=cause.kind,
        cause_id=cause.id,
        actor=acting_user,
        effective_at=at,
    )
    _run(
        """
        INSERT INTO ledger_posting (id, created_at, entry_id, account_id, amount)
        SELECT {uuid}, now(), %(entry)s, account_id, -(%(column)s)
        FROM publication_owed WHERE %(column)s > 0
        UNION ALL SELECT {uuid}, now(), %(entry)s, %(into)s, %(total)s
        """.replace("%(column)s", column),
        {"entry": entry.pk, "into": into.pk, "total": total},
    )
    return entry


def _run(statement: LiteralString, values: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement.replace("{uuid}", _UUID7), values)


def _row(statement: LiteralString, values: dict[str, Any]) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: tuple[Any, ...] = cursor.fetchone()
        return found
