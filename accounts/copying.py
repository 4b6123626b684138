"""Many rows of one table at once, by COPY: no object, no default and no statement to be parsed.

For rows that nobody asks back. Constraints and triggers hold as for any other row; there is no
`ON CONFLICT`, so a row that stands already raises IntegrityError.

Values go in PostgreSQL's binary form, which neither side writes or reads as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from django.db import connection, models
from psycopg import sql

# The version of the binary form of jsonb, which comes before its text.
JSONB = b"\x01"


def copy_rows(
    model: type[models.Model], names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write ``rows``, whose values are those of the fields ``names`` in that order; a foreign key's
    is the id. JSON comes as text, in bytes. What has no default in the database has to be named."""
    statement, types, documents = _plan(model, tuple(names))
    wrapped = connection.wrap_database_errors
    with wrapped, connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            if documents:
                row = list(row)
                for place in documents:
                    row[place] = JSONB + row[place]
            copy.write_row(row)


@cache
def _plan(
    model: type[models.Model], names: tuple[str, ...]
) -> tuple[sql.Composed, tuple[str, ...], tuple[int, ...]]:
    """The statement, each column's type, and which of them are JSON, whose bytes go as they are."""
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(model._meta.db_table),
        sql.SQL(", ").join(sql.Identifier(str(field.column)) for field in fields),
    )
    types = [str(field.db_type(connection)).partition("(")[0] for field in fields]
    documents = tuple(place for place, name in enumerate(types) if name == "jsonb")
    return statement, tuple("bytea" if name == "jsonb" else name for name in types), documents
