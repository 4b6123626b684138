"""Whoever has most of a worker's places gives way while somebody else's request is on its way.

On a machine that one person keeps busy, another's request waits a little at each process that takes
it up: not for a place, but for a processor. So the web tells whose request has just come
(`serving.arrivals`), and where that person has none running here, the answers of who has half of
the places or more stand still until the first token is shown: for LONGEST_SECONDS at most, and not
for more than half of the time, so that no stream of others' requests stops anybody. What can wait,
a charge or the next claim, waits as long.

For engines that compute on the processors of the machine; a GPU is in nobody's way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from uuid import UUID

from serving import arrivals, streams
from serving.arrivals import LONGEST_SECONDS
from serving.turns import Turns

logger = logging.getLogger(__name__)

FEWEST = 3  # answers of one person that may be too many
PAUSE_SECONDS = 1.0
BLOCK_SECONDS = 2  # less than the client waits for a reply


class Holds(Protocol):
    """An engine, as far as it can let an owner's rows stand still."""

    def hold(self, owner: str, seconds: float) -> None: ...

    def go_on(self) -> None: ...


class GivingWay:
    """For all threads of one worker's process. `clock` tells seconds."""

    def __init__(
        self,
        turns: Turns,
        engines: Callable[[], Iterable[Holds]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turns, self._engines, self._clock = turns, engines, clock
        self._lock = threading.Lock()
        self._is_free = threading.Event()
        self._held: UUID | None = None
        self._waits_for: UUID | None = None
        self._since = self._until = self._not_before = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="giving way", daemon=True)
                self._thread.start()

    def coming(self, payer: UUID) -> None:
        """Somebody's request has come to the web."""
        with self._lock:
            now, most = self._clock(), self._turns.most_of(FEWEST)
            if most is None or now < self._not_before or self._turns.has(payer):
                return
            self._held, self._waits_for = most, payer
            self._since, self._until = now, now + LONGEST_SECONDS
            self._not_before = self._until + LONGEST_SECONDS
            self._is_free.clear()
            for engine in self._engines():
                engine.hold(str(most), LONGEST_SECONDS)

    def begun(self, payer: UUID) -> None:
        """The first token of somebody's answer was shown."""
        if payer != self._waits_for:
            return
        with self._lock:
            now = self._clock()
            self._held = self._waits_for = None
            self._until, self._not_before = now, now + (now - self._since)
            self._is_free.set()
            for engine in self._engines():
                engine.go_on()

    def wait(self, payer: UUID | None = None) -> None:
        """Before something that can wait: a moment for who gives way now, and where it is nobody's
        in particular."""
        left = self._until - self._clock()
        if left > 0 and payer in (None, self._held):
            self._is_free.wait(left)

    def _run(self) -> None:
        while True:
            try:
                self._listen()
            except Exception:
                # Redis may be away for a moment; the next round tries again.
                logger.warning("nobody is given way", exc_info=True)
            time.sleep(PAUSE_SECONDS)

    def _listen(self) -> None:
        client = streams.connection_of_this_process()
        last = "$"
        while True:
            found: Any = client.xread({arrivals.KEY: last}, block=BLOCK_SECONDS * 1_000)
            for _, entries in found or []:
                last = entries[-1][0]
                for _, fields in entries:
                    self.coming(arrivals.payer_of(fields))
