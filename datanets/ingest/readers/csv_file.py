"""CSV with a header line; comma, semicolon, tab or bar between the fields.

Row 1 is the first row under the header. An unclosed quote swallows everything after it, so a row
that grows far beyond the limit ends the reading with the line where it began.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from datanets.ingest.encoding import require_utf8
from datanets.ingest.faults import Fault, FileFault
from datanets.ingest.limits import Limits
from datanets.ingest.readers.jsonl import oversize, too_many_rows
from datanets.ingest.rows import EXCERPT, Row, Rows

DELIMITERS = ",;\t|"
# A row may overrun its limit by this much before the reader gives up on finding its end.
PATIENCE = 8


def read(path: Path, limits: Limits) -> Rows:
    """Yield every data row's Row or Fault. Raises FileFault for what concerns the whole file."""
    require_utf8(path)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        head = stream.read(64 * 1024)
        stream.seek(0)
        lines = _Lines(stream, limits.row_bytes * PATIENCE)
        # One field may fill a whole row; the row itself is bounded by _Lines.
        csv.field_size_limit(max(csv.field_size_limit(), limits.row_bytes * PATIENCE))
        reader = csv.reader(lines, delimiter=delimiter_of(head), strict=True)
        header = _header(reader, limits)
        yield from _rows(reader, header, lines, limits)


def delimiter_of(head: str) -> str:
    """The delimiter that stands most often in the first line, outside quotes."""
    line = head.lstrip("\ufeff\r\n").split("\n", 1)[0]
    bare = "".join(part for part in line.split('"')[::2])
    return max(DELIMITERS, key=bare.count)


def _header(reader: "Iterator[list[str]]", limits: Limits) -> list[str]:
    try:
        header = [name.strip() for name in next(reader)]
    except StopIteration:
        raise FileFault("EMPTY", "The file is empty. Choose a file with rows.") from None
    except csv.Error as error:
        raise FileFault("CSV", f"The header line is no CSV: {error}.", row=0) from None
    if len(header) > limits.columns:
        raise FileFault(
            "COLUMNS",
            f"The header names {len(header)} columns; {limits.columns} are allowed.",
            row=0,
        )
    if "" in header:
        raise FileFault(
            "HEADER",
            f"Column {header.index('') + 1} has no name. Name every column in the first line.",
            row=0,
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise FileFault(
            "HEADER", f"Two columns are named “{twice}”. Give each a name of its own.", row=0
        )
    return header


def _rows(
    reader: "Iterator[list[str]]", header: list[str], lines: "_Lines", limits: Limits
) -> Rows:
    number = 0
    while True:
        lines.begin_row()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _broken(number + 1, lines, str(error))
            return
        if not fields:
            continue
        number += 1
        if number > limits.rows:
            raise too_many_rows(limits, number)
        if lines.row_bytes > limits.row_bytes:
            yield oversize(number, ",".join(fields)[:EXCERPT].encode(), limits)
        elif len(fields) != len(header):
            yield _wrong_width(number, fields, header, lines)
        else:
            yield Row(number, dict(zip(header, fields, strict=True)))


def _wrong_width(number: int, fields: list[str], header: list[str], lines: "_Lines") -> Fault:
    return Fault(
        row=number,
        code="FIELDS",
        message=(
            f"The row (line {lines.first_line}) has {len(fields)} fields, the header has "
            f"{len(header)}. Put text that contains the delimiter in double quotes."
        ),
        raw=",".join(fields)[:EXCERPT],
    )


def _broken(number: int, lines: "_Lines", reason: str) -> Fault:
    return Fault(
        row=number,
        code="CSV",
        message=(
            f"The row that begins in line {lines.first_line} is no CSV ({reason}); a quote is "
            "probably not closed. The rows after it could not be read."
        ),
        raw=lines.begun[:EXCERPT],
    )


class _Lines:
    """The file's lines for csv.reader, which remember where the present row began.

    stream: text with newlines kept; patience: bytes of one row after which reading ends.
    """

    def __init__(self, stream: io.TextIOBase, patience: int) -> None:
        self._stream = stream
        self._patience = patience
        self._line = 0
        self.begin_row()

    def begin_row(self) -> None:
        """Forget the row before; the next line begins a new one."""
        self.first_line = self._line + 1
        self.row_bytes = 0
        self.begun = ""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._patience)
        if not line:
            raise StopIteration
        self._line += 1
        self.row_bytes += len(line.encode())
        self.begun = self.begun or line
        if self.row_bytes >= self._patience:
            raise csv.Error("the row does not end")
        return line
