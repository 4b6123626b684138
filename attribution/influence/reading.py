"""Sketches from the disk in large blocks, the next ones read while this one is scored.

A mapped file is faulted in page by page, each when it is first touched, so that a disk waits for
the processor and the processor for the disk. What the page cache has already is best taken from the
map; where a block is not there, threads read it and the next one by plain reads into buffers, two
at a time, since a disk that is asked for two things at once gives more than for one.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**22  # bytes; what was just read is still in the processor's cache, where it is scored
ASKED = 2**20  # bytes that one read asks for
PROBE = mmap.PAGESIZE
READERS = 2

Codes = NDArray[np.uint8]


def blocks(codes: Codes) -> Iterator[tuple[int, Codes]]:
    """Rows of ``codes`` (records, bytes) in order, each block with its first row's place.

    A block is valid until the next one is asked for. Raises OSError where the file cannot be read
    to its end or is shorter than the map says.
    """
    rows = max(1, BLOCK // max(1, codes.shape[1]))
    begins = range(0, len(codes), rows)
    if len(begins) < 2 or not isinstance(codes, np.memmap) or not codes.flags.c_contiguous:
        yield from ((begin, np.asarray(codes[begin : begin + rows])) for begin in begins)
        return
    try:
        opened = os.open(str(codes.filename), os.O_RDONLY)
    except OSError:  # the file is gone, its map is not
        yield from ((begin, np.asarray(codes[begin : begin + rows])) for begin in begins)
        return
    with _closing(opened) as file, ThreadPoolExecutor(READERS, "sketches") as readers:
        offset = _offset(codes)
        # Those that are being read into, and the one that is scored.
        buffers = [np.empty((rows, codes.shape[1]), dtype=np.uint8) for _ in range(READERS + 1)]

        def fetch(number: int) -> Codes:
            """The block from the map where the cache has it, else read into a buffer."""
            begin = begins[number]
            mapped = codes[begin : begin + rows]
            place = offset + begin * codes.shape[1]
            if _is_cached(file, place, mapped.nbytes):
                return np.asarray(mapped)
            buffer = buffers[number % len(buffers)][: len(mapped)]
            _read(file, buffer, place)
            return buffer

        ahead = deque(readers.submit(fetch, number) for number in range(READERS))
        for number, begin in enumerate(begins):
            block = ahead.popleft().result()
            if number + READERS < len(begins):
                ahead.append(readers.submit(fetch, number + READERS))
            yield begin, block


@contextmanager
def _closing(file: int) -> Iterator[int]:
    try:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield file
    finally:
        os.close(file)


def _offset(codes: np.memmap[tuple[int, ...], np.dtype[np.uint8]]) -> int:
    """Where in the file behind the map the first row begins, of a part of a map, too."""
    start = codes.offset - codes.offset % mmap.ALLOCATIONGRANULARITY
    mapped = np.frombuffer(codes._mmap, dtype=np.uint8)  # type: ignore[attr-defined]
    return start + codes.ctypes.data - mapped.ctypes.data


def _is_cached(file: int, place: int, size: int) -> bool:
    """Whether the block's first, middle and last page can be had without waiting for the disk.
    Where the system cannot say, they cannot."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    page = bytearray(PROBE)
    try:
        return all(
            os.preadv(file, [page], at, os.RWF_NOWAIT) > 0
            for at in (place, place + size // 2, place + max(0, size - PROBE))
        )
    except OSError:
        return False


def _read(file: int, buffer: Codes, place: int) -> None:
    view = buffer.data.cast("B")
    while view:
        got = os.preadv(file, [view[:ASKED]], place)
        if got == 0:
            raise OSError("A file of sketches ends before its last record.")
        view, place = view[got:], place + got
