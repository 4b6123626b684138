"""JSON Lines: one object a line; a row's number is its line number, empty lines are skipped."""

from pathlib import Path
from typing import Any

from datanets.ingest.encoding import require_utf8
from datanets.ingest.faults import Fault, FileFault, ValueFault
from datanets.ingest.jsontext import decode
from datanets.ingest.limits import Limits
from datanets.ingest.rows import Row, Rows, excerpt


def read(path: Path, limits: Limits) -> Rows:
    """Yield every line's Row or Fault. Raises FileFault for what concerns the whole file."""
    mark = require_utf8(path)
    number = 0
    with path.open("rb") as stream:
        stream.seek(mark)
        while line := stream.readline(limits.row_bytes + 1):
            number += 1
            if number > limits.rows:
                raise too_many_rows(limits, number)
            if len(line) > limits.row_bytes and not line.endswith(b"\n"):
                yield oversize(number, line, limits)
                _skip_line(stream, limits.row_bytes)
                continue
            if line := line.strip():
                yield row_of(number, line, limits)


def row_of(number: int, data: bytes, limits: Limits) -> Row | Fault:
    """One JSON object out of its bytes, or what is wrong with it."""
    try:
        return Row(number, require_object(decode(data, depth=limits.depth), limits))
    except ValueFault as fault:
        return fault.at(number, raw=excerpt(data))


def require_object(value: Any, limits: Limits) -> dict[str, Any]:
    """The value, where it is an object with a bearable number of columns."""
    if not isinstance(value, dict):
        raise ValueFault(
            "NOT_AN_OBJECT",
            "The row is not an object. Write one object with named columns, such as "
            '{"question": "…", "answer": "…"}.',
        )
    if len(value) > limits.columns:
        raise ValueFault(
            "COLUMNS",
            f"The row has {len(value)} columns; {limits.columns} are allowed. Leave out what is "
            "no training text.",
        )
    return value


def oversize(number: int, data: bytes, limits: Limits) -> Fault:
    """The fault of a row that is larger than a row may be."""
    return Fault(
        row=number,
        code="ROW_TOO_LARGE",
        message=f"The row is larger than {limits.row_bytes:,} bytes. Split it into shorter rows.",
        raw=excerpt(data),
    )


def too_many_rows(limits: Limits, number: int) -> FileFault:
    """The fault of a file with more rows than a file may have."""
    return FileFault(
        "ROWS",
        f"The file has more than {limits.rows:,} rows. Split it into several files.",
        row=number,
    )


def _skip_line(stream: Any, size: int) -> None:
    while piece := stream.readline(size):
        if piece.endswith(b"\n"):
            return
