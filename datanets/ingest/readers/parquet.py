"""Parquet through pyarrow, a few rows at a time.

A Parquet file is a program for a decompressor, so what it claims is checked before anything is
unpacked: rows, columns, depth of the schema, and the unpacked size of each row group.
"""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datanets.ingest.faults import Fault, FileFault
from datanets.ingest.limits import Limits
from datanets.ingest.readers.jsonl import oversize, too_many_rows
from datanets.ingest.rows import Row, Rows

BATCH_ROWS = 256
# Text rarely packs better than this; a file that claims more is a decompression bomb.
EXPANSION = 200
METADATA_BYTES = 16 << 20


def read(path: Path, limits: Limits) -> Rows:
    """Yield every row's Row or Fault. Raises FileFault for what concerns the whole file."""
    try:
        with _open(path, limits) as file:
            _check_claims(file, path, limits)
            yield from _rows(file, limits)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0][:200]
        raise FileFault(
            "PARQUET", f"The file is no readable Parquet: {reason}. Write it again."
        ) from None


def _open(path: Path, limits: Limits) -> Any:
    return pq.ParquetFile(
        path,
        memory_map=True,
        page_checksum_verification=True,
        thrift_string_size_limit=METADATA_BYTES,
        thrift_container_size_limit=METADATA_BYTES,
        schema_depth_limit=limits.depth + 2,
        arrow_extensions_enabled=False,
    )


def _check_claims(file: Any, path: Path, limits: Limits) -> None:
    claims = file.metadata
    if claims.num_rows > limits.rows:
        raise too_many_rows(limits, limits.rows + 1)
    if len(file.schema_arrow.names) > limits.columns:
        raise FileFault(
            "COLUMNS",
            f"The file has {len(file.schema_arrow.names)} columns; {limits.columns} are allowed.",
        )
    names = file.schema_arrow.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FileFault("HEADER", f"Two columns are named “{twice}”. Give each its own name.")
    ceiling = max(path.stat().st_size * EXPANSION, 64 << 20)
    unpacked = sum(claims.row_group(i).total_byte_size for i in range(claims.num_row_groups))
    if unpacked > min(ceiling, limits.file_bytes * EXPANSION):
        raise FileFault(
            "EXPANSION",
            f"The file unpacks to {unpacked:,} bytes, far more than its size allows. Write it "
            "with less repetition, or as several files.",
        )


def _rows(file: Any, limits: Limits) -> Rows:
    number = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
        for values in batch.to_pylist():
            number += 1
            yield _row(number, values, limits)


def _row(number: int, values: dict[str, Any], limits: Limits) -> Row | Fault:
    try:
        plain = {name: _plain(value) for name, value in values.items()}
    except UnicodeDecodeError:
        return Fault(row=number, code="JSON", message="The row holds text that is not UTF-8.")
    if _size(plain) > limits.row_bytes:
        return oversize(number, repr(plain)[:2000].encode(), limits)
    return Row(number, plain)


def _plain(value: Any) -> Any:
    """Arrow's Python values as what JSON knows; a number that JSON lacks becomes its name."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", errors="replace"))
    if isinstance(value, dict):
        return sum(_size(key) + _size(inner) for key, inner in value.items())
    if isinstance(value, list):
        return sum(map(_size, value))
    return 8
