"""A file from its bytes to candidates for records, row by row.

Memory holds one batch of rows and 32 bytes for each row seen (the hashes of this file), so the
cost grows with the rows and not with the file's size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datanets.ingest import files, jsontext
from datanets.ingest.faults import Fault, FileFault, ValueFault
from datanets.ingest.limits import DEFAULT_LIMITS, Limits
from datanets.ingest.mapping import Mapping as ColumnMapping
from datanets.ingest.mapping import contributor_of, detect, payload_of
from datanets.ingest.payload import Payload, content_hash, length
from datanets.ingest.rows import Row, Rows

BATCH = 500
PREVIEW_ROWS = 10
CELL_CHARS = 500
PREVIEW_ROW_CHARS = 20_000

# Hashes in, for each known one the sentence that says where it is known from.
KnownHashes = Callable[[Sequence[str]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that can become a record.

    contributor: the name in the contributor column, empty where none is mapped.
    """

    row: int
    payload: Payload
    content_hash: str
    contributor: str

    @property
    def length(self) -> int:
        """Characters of text."""
        return length(self.payload)


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """cells: every value shortened to a table cell; values: the row itself, empty where large."""

    number: int
    cells: dict[str, str]
    values: dict[str, Any]


@dataclass(frozen=True)
class Preview:
    """The first rows as they will be read.

    columns: every column of those rows, in order; mapping: detected, or None.
    """

    columns: list[str]
    rows: list[PreviewRow]
    faults: list[Fault]
    mapping: ColumnMapping | None


def preview(path: Path, name: str, limits: Limits = DEFAULT_LIMITS) -> Preview:
    """The first rows of a file. Raises FileFault."""
    columns: dict[str, None] = {}
    rows: list[PreviewRow] = []
    faults: list[Fault] = []
    try:
        for item in islice(files.read(path, name, limits), PREVIEW_ROWS):
            if isinstance(item, Fault):
                faults.append(item)
            else:
                columns.update(dict.fromkeys(map(cell, item.values)))
                rows.append(_preview_row(item))
    except FileFault as fault:
        if not rows:
            raise
        faults.append(fault.as_fault(rows[-1].number + 1))
    return Preview(list(columns), rows, faults, detect(list(columns)))


def _preview_row(row: Row) -> PreviewRow:
    cells = {cell(key): cell(value) for key, value in row.values.items()}
    text = jsontext.encode(row.values)
    # A zero character can stand in no database column.
    is_small = len(text) <= PREVIEW_ROW_CHARS and "\\u0000" not in text
    return PreviewRow(row.number, cells, row.values if is_small else {})


def cell(value: Any) -> str:
    """A value as the text of one table cell."""
    text: str = value if isinstance(value, str) else jsontext.encode(value)
    text = "" if value is None else text.replace("\0", "\ufffd")
    return text if len(text) <= CELL_CHARS else text[: CELL_CHARS - 1] + "…"


def check(
    path: Path,
    name: str,
    mapping: ColumnMapping,
    *,
    limits: Limits = DEFAULT_LIMITS,
    known: KnownHashes = lambda hashes: {},
) -> Iterator[Candidate | Fault]:
    """Every row as a Candidate or a Fault, in the order of the file, copies refused.

    known: asked once a batch which hashes the Datanet holds already. Raises FileFault, possibly
    after good rows have been given.
    """
    seen: dict[bytes, int] = {}
    for batch in _batches(files.read(path, name, limits)):
        found = [_candidate(item, mapping, limits) for item in batch]
        hashes = [item.content_hash for item in found if isinstance(item, Candidate)]
        held = known(hashes) if hashes else {}
        for item, source in zip(found, batch, strict=True):
            yield _judge(item, source, seen, held)


def _batches(rows: Rows) -> Iterator[list[Row | Fault]]:
    """Rows in lists of BATCH; what was read before a FileFault comes before it."""
    batch: list[Row | Fault] = []
    try:
        for item in rows:
            batch.append(item)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except FileFault:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _candidate(item: Row | Fault, mapping: ColumnMapping, limits: Limits) -> Candidate | Fault:
    if isinstance(item, Fault):
        return item
    try:
        payload = payload_of(mapping, item.values, text_chars=limits.text_chars)
        contributor = contributor_of(mapping, item.values)
        return Candidate(item.number, payload, content_hash(payload), contributor)
    except ValueFault as fault:
        return fault.at(item.number, raw=item.values)


def _judge(
    item: Candidate | Fault, source: Row | Fault, seen: dict[bytes, int], held: Mapping[str, str]
) -> Candidate | Fault:
    if isinstance(item, Fault):
        return item
    key = bytes.fromhex(item.content_hash)
    raw = source.values if isinstance(source, Row) else None
    first = seen.setdefault(key, item.row)
    if first != item.row:
        message = f"The row is an exact copy of row {first}. Nothing is to do: it is left out."
        return Fault(row=item.row, code="DUPLICATE", message=message, raw=raw)
    if item.content_hash in held:
        return Fault(row=item.row, code="DUPLICATE", message=held[item.content_hash], raw=raw)
    return item
