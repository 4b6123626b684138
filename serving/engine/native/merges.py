"""Merged adapters in memory alone: the packs on disk are for what was published.

Whoever asks chooses the weights, so there is no end to the merges that can be asked for; the
longest unused ones go when their memory is wanted. A row that runs keeps its own, and as many as
may run at once are kept whatever they take: they are made on their way to a row.
"""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from serving.engine.store import Warm

BUDGET = 256 << 20


@dataclass(slots=True)
class Merged(Warm):
    """`address` is valid as long as this object is."""

    memory: mmap.mmap | None = None


class Merges:
    """Thread-safe."""

    def __init__(self, budget: int = BUDGET, *, at_least: int = 1) -> None:
        self._budget, self._at_least = budget, at_least
        self._held: OrderedDict[str, Merged] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Merged | None:
        with self._lock:
            found = self._held.get(name)
            if found is not None:
                self._held.move_to_end(name)
                found.hits += 1
            return found

    def add(self, name: str, blob: bytes, seconds: float) -> None:
        """Raises OSError where there is no memory."""
        memory = mmap.mmap(-1, len(blob))  # begins at a page, as a blob of a pack does
        memory.write(blob)
        address = int(np.frombuffer(memory, np.uint8).ctypes.data)
        with self._lock:
            self._held[name] = Merged(address, len(blob), seconds, memory=memory)
            size = sum(one.size for one in self._held.values())
            while size > self._budget and len(self._held) > self._at_least:
                _, gone = self._held.popitem(last=False)
                size -= gone.size

    def residents(self) -> dict[str, Merged]:
        """By name, the longest unused first."""
        with self._lock:
            return dict(self._held)
