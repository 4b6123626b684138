"""Files for spreadsheets: streamed row by row, and no cell of them is taken for a formula.

A spreadsheet carries out a text that begins like a formula (OWASP, "CSV Injection"), so names and
reasons that people wrote get an apostrophe in front there. Numbers are ours and stay numbers.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse

Cell = str | int | UUID | datetime | date | None
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: Cell) -> str:
    """A value as text that no spreadsheet carries out."""
    if value is None:
        return ""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(FORMULA) else value
    return str(value)


class Amount(str):
    """Digits with a point and perhaps a minus: a text that is a number, so it is left as it is."""


def response(
    name: str, header: Sequence[str], rows: AsyncIterator[Iterable[Cell]]
) -> StreamingHttpResponse:
    """The file `name` as a download; `rows` may be long, it is never held whole."""
    answer = StreamingHttpResponse(_lines(header, rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


async def _lines(header: Sequence[str], rows: AsyncIterator[Iterable[Cell]]) -> AsyncIterator[Any]:
    writer = csv.writer(_Echo())
    yield writer.writerow(header)
    async for row in rows:
        yield writer.writerow(
            [value if isinstance(value, Amount) else cell(value) for value in row]
        )


class _Echo:
    """A file that gives back what is written, so that csv.writer can stream."""

    def write(self, value: str) -> str:
        return value
