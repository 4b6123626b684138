"""Statements that PostgreSQL reads and plans once for each connection, with values beside them.

For what every request asks: of a query with a few joins planning takes longer than answering.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import DatabaseError, connection
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper

# A migration changed a column's type since, or somebody took the connection's statements away.
_OUTDATED = (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName)


class _Prepared(psycopg.RawCursor[Any]):
    """Prepares whatever it is asked, the first time; Django's cursors do not say so."""

    def execute(self, query: Any, params: Any = None, **_: Any) -> _Prepared:
        return super().execute(query, params, prepare=True)


class _Planned(psycopg.RawCursor[Any]):
    """Has each planned for its own values."""

    def execute(self, query: Any, params: Any = None, **_: Any) -> _Planned:
        return super().execute(query, params, prepare=False)


class _Logged(CursorDebugWrapper):
    """Django's own asks the cursor what it has sent, which it does not know of a prepared one."""

    def execute(self, sql: Any, params: Any = None) -> Any:
        with self.debug_sql(sql, params):
            return CursorWrapper.execute(self, sql, params)


def fetch(
    statement: str, values: Sequence[Any], *, prepare: bool = True, again: bool = True
) -> list[tuple[Any, ...]]:
    """The rows that a statement with places `$1`, `$2`, … gives; none for one that gives none.

    Django's log of queries sees it as any other. Not to be prepared is what is planned for the true
    number of its values; behind a pooler that hands a connection on after each transaction
    (`DATABASE_PREPARE=0`) nothing is. Where a plan is outdated all are made anew and it is asked
    `again`; but not in a transaction, which is lost by then and ends without the plans. Raises
    Django's database errors.
    """
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    raw = connection.connection
    kind = _Prepared if prepare and raw.prepare_threshold is not None else _Planned
    wrapper = _Logged if connection.queries_logged else CursorWrapper
    try:
        with wrapper(kind(raw), connection) as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description is not None else []
    except DatabaseError as error:
        outdated = isinstance(error.__cause__, _OUTDATED)
        if not (outdated and again) or connection.in_atomic_block:
            raise
    raw.execute("DEALLOCATE ALL")
    return fetch(statement, values, prepare=prepare, again=False)
