"""Merged adapters in memory alone: the packs on disk are for what was published.

Whoever asks chooses the weights, so there is no end to the merges that can be asked for; the
longest unused ones go when their memory is wanted. A row that runs keeps its own. One is made on
its way to a row, so as many as may run at once are kept for a moment whatever they take; after that
the budget holds for them too.
"""

from __future__ import annotations

import mmap
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serving.engine.store import Warm

BUDGET = 256 << 20
# Seconds in which what was made or asked for is surely with its row.
ON_ITS_WAY = 30.0


@dataclass(slots=True)
class Merged(Warm):
    """`address` is valid as long as this object is."""

    memory: mmap.mmap | None = None
    used: float = 0.0  # when it was made or asked for, by the holder's clock


class Merges:
    """Thread-safe."""

    def __init__(
        self,
        budget: int = BUDGET,
        *,
        at_least: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget, self._at_least, self._clock = budget, at_least, clock
        self._held: OrderedDict[str, Merged] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Merged | None:
        with self._lock:
            found = self._held.get(name)
            if found is not None:
                self._held.move_to_end(name)
                found.hits += 1
                found.used = self._clock()
            return found

    def add(self, name: str, blob: bytes, seconds: float) -> None:
        """Raises OSError where there is no memory."""
        memory = mmap.mmap(-1, len(blob))  # begins at a page, as a blob of a pack does
        memory.write(blob)
        address = int(np.frombuffer(memory, np.uint8).ctypes.data)
        with self._lock:
            self._held[name] = Merged(
                address, len(blob), seconds, memory=memory, used=self._clock()
            )
            self._make_room()

    def residents(self) -> dict[str, Merged]:
        """By name, the longest unused first. Asked every few seconds, so idle ones go here."""
        with self._lock:
            self._make_room()
            return dict(self._held)

    def _make_room(self) -> None:
        size = sum(one.size for one in self._held.values())
        while size > self._budget:
            name, oldest = next(iter(self._held.items()))
            is_on_its_way = self._clock() - oldest.used < ON_ITS_WAY
            if is_on_its_way and len(self._held) <= self._at_least:
                return
            del self._held[name]
            size -= oldest.size
