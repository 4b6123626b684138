"""What those who build an index or a part of it in the attribute worker share. Brings no torch."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

from modelfactory.models import Model
from modelfactory.workers import materialise_adapter

# One build at a time in a process: the other threads go on scoring and sequencing.
building = threading.Lock()
# Seconds: who has built a part tidies up behind it, and the message of the next part is quicker.
HANDOVER = 0.5


class LeaseLostError(Exception):
    """Somebody else has the work now."""


@contextmanager
def turn() -> Iterator[bool]:
    """Whether it is the caller's turn to build in this process, which ends with the block."""
    is_mine = building.acquire(timeout=HANDOVER)
    try:
        yield is_mine
    finally:
        if is_mine:
            building.release()


class Beat:
    """Tells how far a build is by `note(done, total)`, which renews its lease, now and then."""

    def __init__(self, note: Callable[[int, int], bool]) -> None:
        self.note = note
        self.done = -1
        self.last = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Raises LeaseLostError."""
        now = time.monotonic()
        every = min(5.0, settings.WORK_LEASE.total_seconds() / 4)
        if now - self.last < every and done <= self.done:
            return
        self.last, self.done = now, max(done, self.done)
        if not self.note(self.done, total):
            raise LeaseLostError
        # The connection would lie idle through minutes of computing.
        if not connection.in_atomic_block:
            connection.close()


@contextmanager
def adapter_of(model: Model) -> Iterator[Path]:
    """The model's adapter as a folder, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="adapter-") as folder:
        yield materialise_adapter(model.pk, Path(folder))
