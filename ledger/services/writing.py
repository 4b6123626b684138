"""The statement that writes entries: locks, overdraft, entries, postings, balances.

`write` sends one statement whatever the number of entries. For one entry it is prepared once for
each connection; for many it is planned anew, with the true number of rows. Arrays travel as text,
so that a connection prepares the statement once and not once for each mixture of types.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString
from uuid import UUID

from django.db import connection
from django.utils import timezone

from accounts import prepared
from accounts.ids import uuid7
from ledger.models import Account, Entry

# account, wei, then the Datanet, model and completion that the posting is about
RawLeg = tuple[Account, int, UUID | None, UUID | None, UUID | None]


@dataclass(frozen=True, slots=True)
class Row:
    """An entry that is not saved yet, and its legs."""

    entry: Entry
    legs: Sequence[RawLeg]


# Locks are taken after the sort by id, so that two statements never wait in a circle; a row that
# was changed while we waited is read again as it is now. `short` is where an account would fall
# below zero (or past 2**256) after the entry, counted in the order of the entries: then nothing at
# all is inserted, and the caller looks again under the same locks. `fresh` leaves out what is known
# to be written (by a look into the index for each, where a join might read the whole table); an
# entry that was written since the statement began falls under ON CONFLICT.
POST: Final[LiteralString] = """
WITH draft AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::uuid[], $2::varchar[], $3::varchar[], $4::varchar[], $5::int[], $6::varchar[],
        $7::uuid[], $8::int[], $9::uuid[], $10::uuid[], $11::timestamptz[]
    ) WITH ORDINALITY AS d (
        id, kind, idempotency_key, body_hash, legs, cause_kind,
        cause_id, parameter_version, reverses_id, actor_id, effective_at, place
    )
), fresh AS MATERIALIZED (
    SELECT * FROM draft d WHERE (
        SELECT e.id FROM ledger_entry e WHERE e.idempotency_key = d.idempotency_key
    ) IS NULL
), leg AS MATERIALIZED (
    SELECT l.*, f.place FROM unnest(
        $12::uuid[], $13::uuid[], $14::uuid[], $15::numeric[], $16::uuid[], $17::uuid[], $18::uuid[]
    ) AS l (id, entry_id, account_id, amount, datanet_id, model_id, completion_id)
    JOIN fresh f ON f.id = l.entry_id
), locked AS MATERIALIZED (
    SELECT a.id, a.balance, a.overdraft FROM ledger_account a
    WHERE a.id = ANY (ARRAY(SELECT account_id FROM leg))
    ORDER BY a.id FOR NO KEY UPDATE OF a
), moved AS (
    SELECT account_id, sum(sum(amount)) OVER (PARTITION BY account_id ORDER BY place) AS change
    FROM leg GROUP BY account_id, place
), short AS MATERIALIZED (
    SELECT m.account_id FROM moved m JOIN locked a ON a.id = m.account_id
    WHERE (a.balance + m.change < 0 AND NOT a.overdraft)
        OR abs(a.balance + m.change) >= 2::numeric ^ 256
    LIMIT 1
), entry AS (
    INSERT INTO ledger_entry (
        id, created_at, kind, idempotency_key, body_hash, legs, cause_kind,
        cause_id, parameter_version, reverses_id, actor_id, effective_at
    )
    SELECT id, $19::timestamptz, kind, idempotency_key, body_hash, legs, cause_kind,
        cause_id, parameter_version, reverses_id, actor_id, effective_at
    FROM fresh WHERE NOT EXISTS (SELECT FROM short)
    ORDER BY idempotency_key
    ON CONFLICT DO NOTHING
    RETURNING id
), posting AS (
    INSERT INTO ledger_posting (
        id, created_at, entry_id, account_id, amount, datanet_id, model_id, completion_id
    )
    SELECT l.id, $19::timestamptz, l.entry_id, l.account_id, l.amount,
        l.datanet_id, l.model_id, l.completion_id
    FROM leg l JOIN entry e ON e.id = l.entry_id
    ORDER BY l.id
)
SELECT id::text FROM entry
"""


def write(rows: Sequence[Row]) -> set[UUID]:
    """Write the entries; return the ids of those that were.

    None of them where one would overdraw an account; otherwise all but those whose key (or the
    reversal of whose entry) is written already.
    """
    if not rows:
        return set()
    found = prepared.fetch(POST, parameters(rows), prepare=len(rows) == 1)
    written = {UUID(pk) for (pk,) in found}
    for row in rows:
        if row.entry.pk in written:
            row.entry._state.adding = False
            row.entry._state.db = connection.alias
    return written


def parameters(rows: Sequence[Row]) -> list[str]:
    """The statement's arrays: a column each of the entries, then a column each of their legs."""
    entries = [row.entry for row in rows]
    legs = [(uuid7(), leg) for row in rows for leg in row.legs]
    return [
        ids(entry.pk for entry in entries),
        array(entry.kind for entry in entries),
        _texts(entry.idempotency_key for entry in entries),
        array(entry.body_hash for entry in entries),
        array(entry.legs for entry in entries),
        _texts(entry.cause_kind for entry in entries),
        ids(entry.cause_id for entry in entries),
        array(entry.parameter_version for entry in entries),
        ids(entry.reverses_id for entry in entries),
        ids(entry.actor_id for entry in entries),
        _texts(entry.effective_at.isoformat() for entry in entries),
        ids(pk for pk, _ in legs),
        "{" + ",".join(row.entry.pk.hex for row in rows for _ in row.legs) + "}",
        ids(leg[0].pk for _, leg in legs),
        array(leg[1] for _, leg in legs),
        ids(leg[2] for _, leg in legs),
        ids(leg[3] for _, leg in legs),
        ids(leg[4] for _, leg in legs),
        timezone.now().isoformat(),
    ]


def array(values: Iterable[object]) -> str:
    """An array literal of values that need no quotes: ids, numbers, words."""
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"


def ids(values: Iterable[UUID | None]) -> str:
    return "{" + ",".join("NULL" if value is None else value.hex for value in values) + "}"


def _texts(values: Iterable[str]) -> str:
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"
