"""What attribution costs where records are many: `python -m bench.attribution_scale`.

A file of random one-bit codes of 1 KB a record (`--records`, 10^7 by default: 10 GB, deleted at
the end) is scored against one 8-bit answer by the product's kernel, mapped into memory and in
blocks. Beside it the same threads read it: through the same map, all words added up, and by plain
reads of the file. Ways alternate block by block, and what counts is the processor's time of the
threads, so that other work on the machine weighs little. `cold` is the clock's, after the system
was asked to drop the file from its cache, in turn as well: a shared disk is now fast and now slow.

Group scoring is taken over sums as 10^4, 10^6 and 10^7 records make them.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.influence import native
from attribution.influence.quantise import VECTOR_MAX, Query
from attribution.influence.reading import blocks
from attribution.influence.scores import group_scores, portable_scores
from bench import report

WIDTH = 1024  # bytes of a code
BLOCK = 2**16  # codes scored at a time, 64 MB
COLD = 2**19  # codes that one way reads before the other does, from the disk: 512 MB
GROUPS, COORDINATES = 1000, 16_384
RECORDS = (10**4, 10**6, 10**7)


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--records", type=int, default=10**7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("DATA_DIR", ".data")))
    options = parser.parse_args()
    result = report.Report("attribution_scale", options)
    _groups(result)
    folder = options.folder / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="codes-") as file:
        path = Path(file.name)
        _write(path, options.records)
        _codes(result, path, options)
        _cold(result, path, options.records)
    return result.finish()


def _write(path: Path, records: int) -> None:
    """Random codes; blocks repeat one of 64 MB turned by a place, since only the bytes cost."""
    block = np.random.default_rng(0).integers(0, 256, BLOCK * WIDTH, dtype=np.uint8)
    with path.open("wb") as out:
        for begin in range(0, records, BLOCK):
            rows = min(BLOCK, records - begin)
            out.write(np.roll(block, begin // BLOCK)[: rows * WIDTH].tobytes())
        out.flush()
        os.fsync(out.fileno())


def _codes(result: report.Report, path: Path, options: argparse.Namespace) -> None:
    kernel = native.kernel()
    if kernel is None:
        result.add("native kernel", 0, "", at_least=1, note="there is no compiler here")
        return
    products = _products()
    codes = _mapped(path)
    assert np.array_equal(kernel(codes[:100], products), portable_scores(codes[:100], products))

    def score(begin: int) -> None:
        kernel(codes[begin : begin + BLOCK], products)

    def touch(begin: int) -> None:
        codes[begin : begin + BLOCK].view(np.uint64).sum()

    ways: dict[str, Callable[[int], None]] = {
        "score": score,
        "touch": touch,
        "read": partial(_read, path),
    }
    rates = _interleaved(ways, len(codes), options.threads)
    names = {"score": "one 8-bit answer against all codes", "touch": "the same memory, added up",
             "read": "plain reads"}  # fmt: skip
    for name, what in names.items():
        result.add(f"{what}, of a thread", rates[name] / 1e9, "GB/CPU s")
    result.add("scoring / plain reads, in the page cache", rates["score"] / rates["read"], "x",
               at_least=0.5)  # fmt: skip
    result.add("scoring / memory added up", rates["score"] / rates["touch"], "x")
    result.add("10^6 codes", 1e6 * WIDTH / rates["score"] * 1e3, "CPU ms")


def _cold(result: report.Report, path: Path, records: int) -> None:
    """Nothing may be touched here through a map before, or the system keeps it."""
    kernel = native.kernel()
    if kernel is None or records < 2 * COLD:
        return
    products = _products()
    result.add("cold: still in the page cache before", 100 * _forget(path), "%")
    codes = _mapped(path)
    taken: dict[str, list[float]] = {"read": [], "score": []}
    for begin in range(0, records - 2 * COLD + 1, 2 * COLD):
        began = time.perf_counter()
        _read(path, begin, COLD * WIDTH)
        between = time.perf_counter()
        for _, rows in blocks(codes[begin + COLD : begin + 2 * COLD]):
            kernel(rows, products)
        taken["read"].append(between - began)
        taken["score"].append(time.perf_counter() - between)
    read, score = (len(each) * COLD * WIDTH / sum(each) for each in taken.values())
    result.add("cold: plain reads", read / 1e9, "GB/s")
    result.add("cold: scoring / plain reads", score / read, "x", at_least=0.8)


def _products() -> NDArray[np.int32]:
    return np.random.default_rng(1).integers(-127, 128, 8 * WIDTH).astype(np.int32)


def _read(path: Path, begin: int, left: int = BLOCK * WIDTH) -> None:
    """``left`` bytes by plain reads, or what there is of them."""
    buffer = bytearray(2**20)
    with path.open("rb", buffering=0) as stream:
        stream.seek(begin * WIDTH)
        while left > 0 and (got := stream.readinto(buffer)):
            left -= got


def _interleaved(
    ways: Mapping[str, Callable[[int], None]], records: int, threads: int
) -> dict[str, float]:
    """Bytes a second of processor of each way, over blocks that each goes through in turn, the
    first untimed: it brings the block into the page cache."""

    def timed(way: Callable[[int], None], begin: int) -> float:
        began = time.thread_time()
        way(begin)
        return time.thread_time() - began

    spent = dict.fromkeys(ways, 0.0)
    begins = list(range(0, records, BLOCK))
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(begins), threads):
            some = begins[first : first + threads]
            list(pool.map(ways["touch"], some))
            for name, way in ways.items():
                spent[name] += sum(pool.map(partial(timed, way), some))
    return {name: records * WIDTH / seconds for name, seconds in spent.items()}


def _mapped(path: Path) -> NDArray[np.uint8]:
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    mapped._mmap.madvise(mmap.MADV_SEQUENTIAL)  # type: ignore[attr-defined]
    return mapped.reshape(-1, WIDTH)


def _forget(path: Path) -> float:
    """Ask the system to drop the file from its cache, until little is left; tells what part is."""
    left = 1.0
    with path.open("rb") as stream:
        for _ in range(5):
            os.sync()
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            left = _cached(stream.fileno(), path.stat().st_size)
            if left < 0.001:
                break
    return left


def _cached(file: int, size: int) -> float:
    """The part of 4,000 pages all over the file that are read without waiting for the disk."""
    page, found = bytearray(mmap.PAGESIZE), 0
    pages = range(0, size - mmap.PAGESIZE, max(mmap.PAGESIZE, size // 4_000))
    for place in pages:
        with contextlib.suppress(BlockingIOError):
            found += os.preadv(file, [page], place, os.RWF_NOWAIT) > 0
    return found / len(pages)


def _groups(result: report.Report) -> None:
    draw = np.random.default_rng(2)
    query = Query(draw.integers(-127, 128, COORDINATES).astype(np.int16), 1.0, 8)
    spent: dict[int, float] = {}
    sums: dict[int, NDArray[Any]] = {}
    for records in RECORDS:
        each = records // GROUPS
        # A sum of many independent vectors is normal, as wide as the root of their number.
        wide = draw.normal(0, VECTOR_MAX / 100 * each**0.5, (GROUPS, COORDINATES))
        sums[records] = np.rint(wide).astype(np.int64)
    times: dict[int, list[float]] = {records: [] for records in RECORDS}
    for _ in range(7):
        for records in RECORDS:
            began = time.process_time()
            group_scores(sums[records], query)
            times[records].append(time.process_time() - began)
    for records in RECORDS:
        spent[records] = statistics.median(times[records])
        result.add(
            f"{GROUPS:,} groups' scores, {records:,} records", spent[records] * 1e3, "CPU ms"
        )
    result.add("slowest / fastest of them", max(spent.values()) / min(spent.values()), "x",
               at_most=1.1)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
