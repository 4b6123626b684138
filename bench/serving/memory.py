"""What a registered adapter costs: private memory at ten thousand, and the time to swap one in."""

from __future__ import annotations

import ctypes
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report
from serving.engine.store import AdapterStore

if TYPE_CHECKING:
    from bench.serving.__main__ import House

DESCRIPTORS = 1024


def measure(result: report.Report, house: House, registered: int) -> None:
    rows = house.grow(32)
    backend = house.backend("swapped")
    for name, folder in rows:
        backend.load(name, folder)
    swaps = [swap for _ in range(3) for swap in _swaps(house.folder / "swapped")]
    result.add("swap-in, pages touched", statistics.median(swaps), "ms/MB", at_most=0.4)
    blob = bytes(AdapterStore(house.folder / "swapped").view(rows[0][0]))
    result.add("bytes of a packed adapter", len(blob) / 1e6, "MB")
    folder = house.folder / "many"
    fill(folder, blob, registered)
    told = json.loads(
        subprocess.run(
            [sys.executable, "-m", "bench.serving.memory", str(folder), str(registered)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    note = f"{registered:,} blobs of {told['size']:,} bytes, {told['descriptors']} descriptors"
    result.add("private memory of one", told["private"], "bytes", at_most=1024, note=note)


def _swaps(folder: Path) -> list[float]:
    """Milliseconds per MB from asking a store that has mapped nothing to every page touched."""
    store = AdapterStore(folder)
    names = list(store.names())
    store.warm(names[0])  # the pack file's own mapping is made once for all
    found = []
    for name in names[1:]:
        began = time.perf_counter()
        warm = store.warm(name)
        ctypes.string_at(warm.address, 64)
        found.append((time.perf_counter() - began) * 1e3 / (warm.size / 1e6))
    return found


def fill(folder: Path, blob: bytes, count: int) -> None:
    """`count` blobs, distinct by hash: the beginning of a real one with its number in front.

    A page each, for what is asked is what the index, the mappings and the tiers cost.
    """
    store = AdapterStore(folder)
    blobs = (number.to_bytes(8, "little") + blob[8:4000] for number in range(count))
    store.add_all((hashlib.sha256(one).hexdigest(), one) for one in blobs)


def _private() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise OSError("This system does not tell a process's private memory.")


def _child(folder: Path, count: int) -> None:
    """Open the store, have every adapter once, and say what that took."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    store = AdapterStore(folder.parent / "empty")
    before = _private()
    store = AdapterStore(folder)
    size = 0
    for name in store.names():
        size = store.warm(name).size
    assert store.tiers().registered == count
    told = {
        "private": (_private() - before) / count,
        "size": size,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]))
