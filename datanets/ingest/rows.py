"""What every reader yields: a row with its number, or the fault that took its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datanets.ingest.faults import Fault

EXCERPT = 2_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read. number: 1-based, see Fault.row; values: column name to value."""

    number: int
    values: dict[str, Any]


Rows = Iterator[Row | Fault]


def excerpt(data: bytes) -> str:
    """The start of raw bytes as text that can be shown and stored anywhere."""
    return data[:EXCERPT].decode("utf-8", errors="replace").replace("\0", "\ufffd")
