"""Changing many rows in one statement. Django's bulk_update compares each row with each value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models import Model
from psycopg import sql


def write(rows: Sequence[Model], fields: Sequence[str]) -> None:
    """UPDATE the named fields of all rows, which are of one model, in one statement.

    The caller holds their locks.
    """
    if not rows:
        return
    model = rows[0]._meta
    columns: list[Any] = [model.get_field(name) for name in ("id", *fields)]
    names = [sql.Identifier(column.column) for column in columns]
    types = [sql.SQL(column.db_type(connection) + "[]") for column in columns]
    statement = sql.SQL("UPDATE {table} t SET {sets} FROM unnest({arrays}) AS v({names}) {where}")
    values = [
        [column.get_db_prep_save(getattr(row, column.attname), connection) for row in rows]
        for column in columns
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            statement.format(
                table=sql.Identifier(model.db_table),
                sets=sql.SQL(", ").join(sql.SQL("{0} = v.{0}").format(one) for one in names[1:]),
                arrays=sql.SQL(", ").join(sql.SQL("%s::") + one for one in types),
                names=sql.SQL(", ").join(names),
                where=sql.SQL("WHERE t.id = v.id"),
            ),
            values,
        )
