"""Statements that PostgreSQL reads and plans once for each connection, with values beside them.

For what every request asks: of a query with a few joins planning takes longer than answering.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import connection


def fetch(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows that a statement with places `$1`, `$2`, … gives; none for one that gives none.

    Django binds values itself, so this goes to psycopg directly, and Django's log of queries does
    not see it. Behind a pooler that hands a connection on after each transaction
    (`DATABASE_PREPARE=0`) nothing is prepared. Raises Django's database errors.
    """
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    raw = connection.connection
    with connection.wrap_database_errors:
        try:
            return _ask(raw, statement, values)
        except psycopg.errors.FeatureNotSupported:
            # A migration changed a column's type since: its plan is made anew. A transaction is
            # lost by now, and ends without the plans.
            if connection.in_atomic_block:
                raise
            raw.execute("DEALLOCATE ALL")
            return _ask(raw, statement, values)


def _ask(raw: Any, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with psycopg.RawCursor(raw) as cursor:
        cursor.execute(statement, values, prepare=raw.prepare_threshold is not None)
        return cursor.fetchall() if cursor.description is not None else []
