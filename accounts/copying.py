"""Many rows of one table at once, by COPY: no object, no default and no statement to be parsed.

For rows that nobody asks back. Constraints and triggers hold as for any other row; there is no
`ON CONFLICT`, so a row that stands already raises IntegrityError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models
from psycopg import sql


def copy_rows(
    model: type[models.Model], names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write ``rows``, whose values are those of the fields ``names`` in that order; a foreign key's
    is the id. JSON comes as text. What has no default in the database has to be named."""
    columns = [sql.Identifier(str(model._meta.get_field(name).column)) for name in names]  # type: ignore[union-attr]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(model._meta.db_table), sql.SQL(", ").join(columns)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
