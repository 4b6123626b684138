"""An opened span index: where a run of tokens stands, in which records, how often.

Files are memory-mapped; a lookup touches about 2 log2(n) places of the sorted suffixes and as many
of the tokens, whatever the size of the whole. Removal needs no rebuild: a second index over the
removed records alone is opened beside, and what it counts is subtracted.
"""

from __future__ import annotations

import json
import mmap
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attribution.spans import layout
from attribution.spans.build import RecordTokens, build, checked, encode
from attribution.spans.errors import SpansFileError
from attribution.spans.layout import Manifest, SegmentShape

# Occurrences that are looked at in one step when records are collected.
CHUNK = 65_536


class Segment:
    """The sorted suffixes of one run of records. ``first`` is its first token in the whole."""

    def __init__(
        self,
        tokens: mmap.mmap | bytes,
        pointers: mmap.mmap | bytes,
        first: int,
        shape: SegmentShape,
        width: int,
    ) -> None:
        self.tokens, self.pointers = tokens, pointers
        self.first, self.width = first, width
        self.step = shape.pointer_bytes
        self.places = range(shape.tokens)

    def token_bytes_at(self, place: int, size: int) -> bytes:
        """The first ``size`` bytes of the suffix that is at ``place`` in the order."""
        step = self.step
        pointer = int.from_bytes(self.pointers[place * step : (place + 1) * step], "little")
        begin = (self.first + pointer) * self.width
        return self.tokens[begin : begin + size]

    def find(self, pattern: bytes) -> tuple[int, int]:
        """The places of the suffixes that begin with ``pattern``, as (first, end)."""
        key = partial(self.token_bytes_at, size=len(pattern))
        low = bisect_left(self.places, pattern, key=key)
        if low == len(self.places) or key(low) != pattern:
            return low, low
        return low, bisect_right(self.places, pattern, lo=low, key=key)

    def has(self, pattern: bytes) -> bool:
        key = partial(self.token_bytes_at, size=len(pattern))
        low = bisect_left(self.places, pattern, key=key)
        return low < len(self.places) and key(low) == pattern

    def longest(self, pattern: bytes) -> int:
        """Bytes of the longest beginning of ``pattern`` that stands here, in whole tokens."""
        size = len(pattern)
        low = bisect_left(self.places, pattern, key=partial(self.token_bytes_at, size=size))
        best = 0
        # Whatever shares most with the pattern is sorted right before or right after it.
        for place in (low - 1, low):
            if 0 <= place < len(self.places):
                best = max(best, _shared(pattern, self.token_bytes_at(place, size)))
        return best - best % self.width

    def positions(self, low: int, end: int) -> NDArray[np.int64]:
        """Where in all tokens the suffixes at the places ``low`` to ``end`` begin."""
        step = self.step
        raw = np.frombuffer(self.pointers[low * step : end * step], dtype=np.uint8)
        wide = np.zeros((end - low, 8), dtype=np.uint8)
        wide[:, :step] = raw.reshape(-1, step)
        return wide.view("<i8")[:, 0].astype(np.int64) + self.first


class SpanIndex:
    """Open it with ``SpanIndex.open``; ``without`` hides records."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.vocabulary = int(manifest.header["vocabulary"])
        self.width = manifest.token_bytes
        self.tokens = _map(folder / layout.TOKENS)
        self.segments: list[Segment] = []
        self.removed: SpanIndex | None = None
        first = 0
        for number, shape in enumerate(manifest.segments):
            pointers = _map(folder / layout.suffixes_name(number))
            self.segments.append(Segment(self.tokens, pointers, first, shape, self.width))
            first += shape.tokens

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = True) -> SpanIndex:
        """Open the index in ``folder``.

        ``verify`` reads every file once and compares its hash; without it only sizes are looked
        at. Raises SpansFileError for a file that is missing, truncated or altered.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder / layout.MANIFEST)
        for name, stated in manifest.files.items():
            layout.check_file(folder / name, stated, verify=verify)
        return cls(folder, manifest)

    @property
    def root(self) -> str:
        return self.manifest.root

    def without(self, removed: SpanIndex) -> SpanIndex:
        """This index less the records of ``removed``, which ``subtract`` made from it."""
        of = removed.manifest.header["about"].get("removed_from")
        if of != self.root:
            raise SpansFileError(removed.folder, f"it subtracts from index {of}, not {self.root}.")
        less = SpanIndex(self.folder, self.manifest)
        less.removed = removed
        return less

    def subtract(self, record_ids: Iterable[str], folder: Path | str) -> Manifest:
        """Build in ``folder`` the index of those of the records that stand here, for ``without``.

        Costs what the removed records cost, not what the index does.
        """
        rows = sorted(self.rows[name] for name in set(record_ids) if name in self.rows)
        return build(
            folder,
            (RecordTokens(self.records[row], self.ids_of(row)) for row in rows),
            vocabulary=self.vocabulary,
            about={"removed_from": self.root},
        )

    @cached_property
    def records(self) -> list[str]:
        """The records' ids, by row; the removed ones too."""
        path = self.folder / layout.RECORDS
        try:
            with path.open("rb") as lines:
                return [str(json.loads(line)) for line in lines]
        except (OSError, ValueError) as error:
            raise SpansFileError(path, f"it cannot be read ({error}).") from error

    @cached_property
    def rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.records)}

    @cached_property
    def starts(self) -> NDArray[np.uint64]:
        path = self.folder / layout.STARTS
        if not self.manifest.header["record_count"]:
            return np.zeros(0, dtype="<u8")
        return np.memmap(path, dtype="<u8", mode="r")

    @cached_property
    def unigrams(self) -> NDArray[np.int64]:
        """How often each token occurs in the records that are not removed."""
        counts = np.fromfile(self.folder / layout.UNIGRAMS, dtype="<u8").astype(np.int64)
        return counts - self.removed.unigrams if self.removed is not None else counts

    @property
    def token_count(self) -> int:
        """Tokens of the records that are not removed, without separators."""
        gone = self.removed.token_count if self.removed is not None else 0
        return int(self.manifest.header["token_count"]) - gone

    def encode(self, ids: Sequence[int]) -> bytes:
        """An answer's tokens as they are compared here. Raises TokenError."""
        return encode(checked(ids, self.vocabulary, "The answer"), self.width)

    def ids_of(self, row: int) -> NDArray[np.uint32]:
        """The tokens of a record."""
        begin = int(self.starts[row])
        last = row + 1 == len(self.starts)
        end = len(self.tokens) // self.width if last else int(self.starts[row + 1])
        raw = self.tokens[begin * self.width : (end - 1) * self.width]
        wide = np.zeros((end - 1 - begin, 4), dtype=np.uint8)
        wide[:, 4 - self.width :] = np.frombuffer(raw, dtype=np.uint8).reshape(-1, self.width)
        return wide.view(">u4")[:, 0].astype(np.uint32)

    def count(self, pattern: bytes) -> int:
        """How often the tokens of ``pattern`` stand in records that are not removed."""
        found = sum(end - low for low, end in (one.find(pattern) for one in self.segments))
        return found - self.removed.count(pattern) if found and self.removed is not None else found

    def has(self, pattern: bytes) -> bool:
        """Whether the tokens of ``pattern`` stand in a record that is not removed."""
        if self.removed is not None:
            return self.count(pattern) > 0
        return any(one.has(pattern) for one in self.segments)

    def longest(self, pattern: bytes) -> int:
        """Tokens of the longest beginning of ``pattern`` that stands in a record."""
        best = max((one.longest(pattern) for one in self.segments), default=0)
        if self.removed is None or not best:
            return best // self.width
        gone = self.removed.longest(pattern) * self.width
        if gone < best:
            return best // self.width
        # It stands in a removed record; only a shorter one may be left. Fewer tokens never occur
        # less often, so the longest that is left is found by halving.
        lengths = range(1, best // self.width + 1)
        return bisect_left(
            lengths, True, key=lambda size: not self.count(pattern[: size * self.width])
        )

    def records_with(self, pattern: bytes, limit: int) -> list[str]:
        """Up to ``limit`` records that hold ``pattern`` and are not removed, by row.

        A run that stands in more than CHUNK places is looked up chunk by chunk only until there
        are enough records, which then need not be the first of all.
        """
        gone = self._removed_rows
        found: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        for positions in self._occurrences(pattern):
            rows = np.searchsorted(self.starts, positions.astype(np.uint64), side="right") - 1
            found = np.union1d(found, rows[~np.isin(rows, gone)])
            if len(positions) == CHUNK and len(found) >= limit:
                break
        return [self.records[row] for row in found[:limit]]

    def _occurrences(self, pattern: bytes) -> Iterator[NDArray[np.int64]]:
        for segment in self.segments:
            low, end = segment.find(pattern)
            for begin in range(low, end, CHUNK):
                yield segment.positions(begin, min(begin + CHUNK, end))

    @cached_property
    def _removed_rows(self) -> NDArray[np.int64]:
        if self.removed is None:
            return np.zeros(0, dtype=np.int64)
        return np.array([self.rows[name] for name in self.removed.records], dtype=np.int64)


def _shared(left: bytes, right: bytes) -> int:
    """How many bytes both have in common from the beginning."""
    size = min(len(left), len(right))
    differ = int.from_bytes(left[:size], "big") ^ int.from_bytes(right[:size], "big")
    return size - (differ.bit_length() + 7) // 8


def _map(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        # Nothing cannot be mapped.
        if not path.stat().st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
