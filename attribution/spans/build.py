"""From records to a span index, in bounded memory.

Records are streamed to disk and cut into segments; each segment's suffixes are sorted on their own
(libdivsufsort over big-endian tokens), which needs about 14 bytes of memory for each of its tokens
(22 where tokens are 3 bytes wide), whatever the size of the whole. A build that was stopped goes on
with the first segment that is not sorted; the same records give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydivsufsort import divsufsort

from attribution.spans import layout
from attribution.spans.errors import SpansFileError, TokenError
from attribution.spans.layout import Manifest, SegmentShape
from attribution.translog import canonical

# Positions of such a segment fit into 3 bytes.
SEGMENT_TOKENS = 2**24

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RecordTokens:
    """A record's id and its token ids, as the model reads them."""

    record_id: str
    ids: Sequence[int] | NDArray[np.integer[Any]]


def build(
    folder: Path | str,
    records: Iterable[RecordTokens],
    *,
    vocabulary: int,
    about: dict[str, Any] | None = None,
    segment_tokens: int = SEGMENT_TOKENS,
    on_progress: Progress | None = None,
) -> Manifest:
    """Build the index of ``records`` in ``folder`` and return its manifest.

    ``about`` is put into the header (say, which tokenizer). ``on_progress`` is called with the
    tokens sorted so far and all of them. Raises TokenError for a token outside of the vocabulary,
    SpansFileError where a file cannot be written, ValueError for a vocabulary that is too large.
    """
    folder = Path(folder)
    width = layout.token_bytes_for(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    segments = _write_records(folder, records, vocabulary, width, segment_tokens)
    files = {
        name: layout.describe_file(folder / name)
        for name in (layout.TOKENS, layout.STARTS, layout.RECORDS, layout.UNIGRAMS)
    }
    total, done = sum(one.tokens for one in segments), 0
    with (folder / layout.TOKENS).open("rb") as tokens:
        for number, shape in enumerate(segments):
            if on_progress is not None:
                on_progress(done, total)
            path = folder / layout.suffixes_name(number)
            _sort_segment(bytearray(tokens.read(shape.tokens * width)), width, shape, path)
            files[path.name] = layout.describe_file(path)
            done += shape.tokens
    if on_progress is not None:
        on_progress(done, total)
    count = sum(one.records for one in segments)
    header = {
        "format": layout.FORMAT,
        "vocabulary": vocabulary,
        "token_bytes": width,
        "record_count": count,
        "token_count": total - count,
        "segments": [{"records": one.records, "tokens": one.tokens} for one in segments],
        "about": dict(about or {}),
    }
    manifest = Manifest(header, files)
    # Last, so that a folder with a manifest is whole.
    with _written(folder / layout.MANIFEST) as file:
        file.write(canonical.dumps(manifest.to_json()))
    for stamp in folder.glob("*.of"):
        stamp.unlink()
    return manifest


def encode(ids: Sequence[int] | NDArray[np.int64], width: int) -> bytes:
    """Tokens as big-endian numbers of ``width`` bytes."""
    wide = np.asarray(ids, dtype=">u4")
    return wide.view(np.uint8).reshape(-1, 4)[:, 4 - width :].tobytes()


def checked(
    ids: Sequence[int] | NDArray[np.integer[Any]], vocabulary: int, whose: str
) -> NDArray[np.int64]:
    """The ids as an array. Raises TokenError."""
    found = np.asarray(ids, dtype=np.int64)
    if found.ndim != 1 or (found.size and not (found.min() >= 0 and found.max() < vocabulary)):
        raise TokenError(f"{whose} holds a token that is not one of the {vocabulary} known ones.")
    return found


def _write_records(
    folder: Path,
    records: Iterable[RecordTokens],
    vocabulary: int,
    width: int,
    segment_tokens: int,
) -> list[SegmentShape]:
    """Tokens, starts, ids and counts to their files; returns how the segments are cut."""
    unigrams = np.zeros(vocabulary, dtype=np.int64)
    segments: list[SegmentShape] = []
    held, filled, position = 0, 0, 0
    with (
        _written(folder / layout.TOKENS) as tokens,
        _written(folder / layout.STARTS) as starts,
        _written(folder / layout.RECORDS) as names,
    ):
        for record in records:
            ids = checked(record.ids, vocabulary, f"Record {record.record_id}")
            np.add.at(unigrams, ids, 1)
            length = len(ids) + 1
            # A segment holds one record at least, however long that is.
            if held and filled + length > segment_tokens:
                segments.append(SegmentShape(held, filled))
                held = filled = 0
            tokens.write(encode(ids, width) + b"\xff" * width)
            starts.write(position.to_bytes(8, "little"))
            names.write(json.dumps(record.record_id).encode() + b"\n")
            held, filled, position = held + 1, filled + length, position + length
    if held:
        segments.append(SegmentShape(held, filled))
    with _written(folder / layout.UNIGRAMS) as file:
        file.write(unigrams.astype("<u8").tobytes())
    return segments


def _sort_segment(tokens: bytearray, width: int, shape: SegmentShape, path: Path) -> None:
    """Write the order of the segment's suffixes, unless that was done for the same tokens."""
    stamp = path.with_suffix(".of")
    wanted = hashlib.sha256(tokens).hexdigest()
    size = shape.tokens * shape.pointer_bytes
    if path.is_file() and path.stat().st_size == size and _read(stamp) == wanted:
        return
    stamp.unlink(missing_ok=True)
    order = divsufsort(np.frombuffer(tokens, dtype=np.uint8))
    # The suffixes that begin with a token; the others begin within one.
    order = order[order % width == 0] // width
    little = order.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : shape.pointer_bytes]
    with _written(path) as file:
        file.write(little.tobytes())
    with _written(stamp) as file:
        file.write(wanted.encode())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that stands under its name only once it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise SpansFileError(path, f"it could not be written ({error.strerror}).") from error
