"""A JSON array of objects, element by element, over a memory map.

The array is never decoded as one value: a scan finds where each element ends, so that one bad
element costs one row and not the file, and a large file does not fill the memory.
"""

import mmap
import re
from pathlib import Path

from datanets.ingest.encoding import require_utf8
from datanets.ingest.faults import FileFault
from datanets.ingest.limits import Limits
from datanets.ingest.readers.jsonl import oversize, row_of, too_many_rows
from datanets.ingest.rows import Rows

STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
SPACE = b" \t\r\n"


def read(path: Path, limits: Limits) -> Rows:
    """Yield every element's Row or Fault. Raises FileFault for what concerns the whole file."""
    mark = require_utf8(path)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield from _elements(data, _open_bracket(data, mark) + 1, limits)


def _open_bracket(data: mmap.mmap, mark: int) -> int:
    start = re.compile(rb"[ \t\r\n]*\[").match(data, mark)
    if start is None:
        raise FileFault(
            "NOT_AN_ARRAY",
            "The file is no JSON array of objects. Write [{…}, {…}], or one object a line with "
            "the ending .jsonl.",
            offset=mark,
        )
    return start.end() - 1


def _elements(data: mmap.mmap, begin: int, limits: Limits) -> Rows:
    depth, number = 1, 0
    for match in STRUCTURE.finditer(data, begin):
        token = data[match.start()]
        if token == ord('"') and match.end() - match.start() == 1:
            raise _unclosed(match.start(), number + 1)
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
        if depth == 0 or (depth == 1 and token == ord(",")):
            is_last = depth == 0
            if not (is_last and number == 0 and _is_blank(data, begin, match.start())):
                number += 1
                if number > limits.rows:
                    raise too_many_rows(limits, number)
                yield from _element(data, begin, match.start(), number, limits)
            if is_last:
                _require_end(data, match.end(), number)
                return
            begin = match.end()
    raise FileFault(
        "TRUNCATED",
        f"The array is never closed: the file ends inside row {number + 1}. It was cut short; "
        "write it again.",
        offset=len(data),
        row=number + 1,
    )


def _element(data: mmap.mmap, begin: int, end: int, number: int, limits: Limits) -> Rows:
    if end - begin > limits.row_bytes:
        yield oversize(number, data[begin : begin + 4096], limits)
    else:
        yield row_of(number, data[begin:end].strip(SPACE), limits)


def _is_blank(data: mmap.mmap, begin: int, end: int) -> bool:
    return end - begin < 1 << 16 and not data[begin:end].strip(SPACE)


def _require_end(data: mmap.mmap, at: int, number: int) -> None:
    tail = data[at : at + 4096].strip(SPACE)
    if tail:
        raise FileFault(
            "TRAILING",
            f"There is text after the end of the array (byte {at}). Put every row inside one "
            "array, or write one object a line with the ending .jsonl.",
            offset=at,
            row=number + 1,
        )


def _unclosed(offset: int, row: int) -> FileFault:
    return FileFault(
        "TRUNCATED",
        f"A string in row {row} (byte {offset}) is never closed. The file was cut short or a "
        "quote is missing.",
        offset=offset,
        row=row,
    )
