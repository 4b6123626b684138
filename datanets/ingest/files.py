"""Which reader a file needs, told from its name and its first bytes."""

import re
from pathlib import Path

from datanets.ingest.faults import FileFault
from datanets.ingest.formats import Format, require_ending
from datanets.ingest.limits import Limits
from datanets.ingest.readers import csv_file, json_array, jsonl
from datanets.ingest.rows import Rows


def _read_parquet(path: Path, limits: Limits) -> Rows:
    # pyarrow takes some 60 MB; only a process that meets a Parquet file pays for it.
    from datanets.ingest.readers import parquet

    yield from parquet.read(path, limits)


READERS = {
    Format.JSONL: jsonl.read,
    Format.JSON: json_array.read,
    Format.CSV: csv_file.read,
    Format.PARQUET: _read_parquet,
}
PARQUET_MAGIC = b"PAR1"
FOREIGN = (
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)


def detect(path: Path, name: str, limits: Limits) -> Format:
    """The format of the file at path that its owner calls name.

    Raises FileFault: EMPTY, FILE_TOO_LARGE, FORMAT, NOT_AN_ARRAY.
    """
    promised = require_ending(name)
    size = path.stat().st_size
    if size > limits.file_bytes:
        raise FileFault(
            "FILE_TOO_LARGE",
            f"The file has {size:,} bytes; {limits.file_bytes:,} are allowed. Split it.",
        )
    with path.open("rb") as stream:
        head = stream.read(4096)
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise FileFault("EMPTY", "The file is empty. Choose a file with rows.")
    if (promised is Format.PARQUET) != head.startswith(PARQUET_MAGIC):
        raise _mismatch(name, promised)
    _refuse_foreign(name, head)
    return _json_kind(head) if promised is Format.JSON else promised


def read(path: Path, name: str, limits: Limits) -> Rows:
    """Rows and faults of a file, one at a time. Raises FileFault at once or on the way."""
    return READERS[detect(path, name, limits)](path, limits)


def _refuse_foreign(name: str, head: bytes) -> None:
    for magic, what in FOREIGN:
        if head.startswith(magic):
            raise FileFault(
                "FORMAT",
                f"“{name}” is {what}, whatever its name says. Upload JSON, CSV or Parquet.",
            )


def _mismatch(name: str, promised: Format) -> FileFault:
    if promised is Format.PARQUET:
        return FileFault("FORMAT", f"“{name}” is no Parquet file: it does not begin with PAR1.")
    return FileFault("FORMAT", f"“{name}” is a Parquet file. Give it the ending .parquet.")


def _json_kind(head: bytes) -> Format:
    """A .json file may hold one object a line, as many tools write it."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    one_object_a_line = re.match(rb"\{[^\n]*\}[ \t\r]*(\n|$)", text)
    long_first_line = text.startswith(b"{") and b"\n" not in text
    return Format.JSONL if one_object_a_line or long_first_line else Format.JSON
