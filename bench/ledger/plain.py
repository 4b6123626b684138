"""The same tables without the ledger's triggers, with NUMERIC and with bigint, and their statement.

Foreign keys, checks and indexes are kept. Without the trigger the statement moves the balances
itself; nothing checks then that an entry balances or that postings stay as they are.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString

from ledger.services.writing import POST as WITH_TRIGGERS

BALANCES: Final[LiteralString] = """
), balance AS (
    UPDATE ledger_account a SET balance = a.balance + m.amount
    FROM (
        SELECT l.account_id, sum(l.amount) AS amount FROM leg l JOIN entry e ON e.id = l.entry_id
        GROUP BY l.account_id
    ) m WHERE a.id = m.account_id
)
SELECT id::text FROM entry
"""


def _statement(prefix: LiteralString, amount: LiteralString) -> LiteralString:
    changed = WITH_TRIGGERS.replace(")\nSELECT id::text FROM entry\n", BALANCES.lstrip("\n"))
    assert changed != WITH_TRIGGERS
    return changed.replace("ledger_", f"{prefix}_").replace("::numeric[]", f"::{amount}[]")


POST = _statement("plain", "numeric")
BIGINT = _statement("small", "bigint")


def copy_tables(connection: Any) -> None:
    """Makes `plain_…` and `small_…` with the accounts of the ledger, each with the same funds."""
    with connection.cursor() as cursor:
        for prefix, amount in (("plain", "numeric(78,0)"), ("small", "bigint")):
            for table in ("account", "entry", "posting"):
                cursor.execute(f"CREATE TABLE {prefix}_{table} (LIKE ledger_{table} INCLUDING ALL)")
            # LIKE copies all but this, without which a balance has no room to change in its page.
            cursor.execute(f"ALTER TABLE {prefix}_account SET (fillfactor = 50)")
            cursor.execute(
                f"ALTER TABLE {prefix}_account ALTER balance TYPE {amount};"
                f"ALTER TABLE {prefix}_posting ALTER amount TYPE {amount}"
            )
            for table, column, target in (
                ("posting", "entry_id", f"{prefix}_entry"),
                ("posting", "account_id", f"{prefix}_account"),
                ("entry", "actor_id", "accounts_user"),
                ("entry", "reverses_id", f"{prefix}_entry"),
            ):
                cursor.execute(
                    f"ALTER TABLE {prefix}_{table} ADD FOREIGN KEY ({column})"
                    f" REFERENCES {target} (id) DEFERRABLE INITIALLY DEFERRED"
                )
            cursor.execute(
                f"INSERT INTO {prefix}_account SELECT * FROM ledger_account WHERE kind = 'EARNINGS'"
                if prefix == "plain"
                else f"INSERT INTO {prefix}_account (id, created_at, kind, owner_id, shard,"
                " overdraft, balance) SELECT id, created_at, kind, owner_id, shard, overdraft,"
                " 9000000000000000000 / 2 FROM ledger_account WHERE kind = 'EARNINGS'"
            )
        cursor.execute("ANALYZE")
