"""The reject file: refused rows with their reasons, to be corrected and uploaded again."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from datanets.ingest import jsontext
from datanets.ingest.faults import Fault

# A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
FIXED = ["_row", "_column", "_code", "_reason"]


def as_jsonl(faults: Iterable[Fault]) -> Iterator[bytes]:
    """One object a line: row, column, code, reason, and the row as it was read under "data"."""
    for fault in faults:
        line = {**fault.as_dict(), "data": fault.raw}
        yield jsontext.encode(line).encode() + b"\n"


def as_csv(faults: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The lines of as_jsonl (decoded) as CSV for a spreadsheet, the row's data as one column."""
    for values in [[*FIXED, "data"], *map(_fields, faults)]:
        line = io.StringIO()
        csv.writer(line).writerow([_harmless(value) for value in values])
        yield line.getvalue().encode()


def _fields(fault: dict[str, Any]) -> list[str]:
    data = fault.get("data")
    text = data if isinstance(data, str) else jsontext.encode(data)
    return [str(fault["row"]), fault["column"], fault["code"], fault["message"], text]


def _harmless(value: str) -> str:
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value
