"""Few requests of one key are taken in at the same time, so that a flood is not everybody's wait.

Checking a key, counting tokens and holding money keep a process busy for some milliseconds each. A
key's own requests take turns at that; another's are not behind them. And a key with a crowd of
requests that have no token yet takes no turn while somebody else's waits for its first, here or in
another web process: not for longer than LONGEST_SECONDS each, so that a stream of others' requests
stops nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from serving import arrivals
from serving.arrivals import LONGEST_SECONDS
from serving.errors import TooManyRequests
from serving.following import following

AT_ONCE = 2
CROWD = 4
PAYERS = 10_000
LISTEN_SECONDS = 1.0
FULL_SECONDS = 0.5


class Starting:
    """For one event loop. `clock` tells seconds."""

    def __init__(self, at_once: int = AT_ONCE, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._clock = at_once, clock
        self._turns: dict[int, asyncio.Semaphore] = {}
        # When each came that has no token yet, by its key.
        self._coming: defaultdict[int, list[float]] = defaultdict(list)
        self._fewer = asyncio.Event()
        # Who pays for a key's requests, as far as it was seen; and who came to another process.
        self._payers: dict[int, UUID] = {}
        self._elsewhere: tuple[UUID | None, float] = None, 0.0
        # When a key was told last that it has too many requests open, and with which words.
        self._full: dict[int, tuple[float, TooManyRequests]] = {}
        self._listening: asyncio.Task[None] | None = None

    @contextmanager
    def coming(self, who: str) -> Iterator[None]:
        """Around a request of `who`, until its first token is there.

        Raises TooManyRequests, without another look, where the key was told so a moment ago.
        """
        name, came = hash(who), self._clock()
        since, refusal = self._full.get(name, (0.0, None))
        if refusal is not None and came - since < FULL_SECONDS:
            raise refusal
        self._coming[name].append(came)
        if len(self._coming[name]) < CROWD:
            self._announce(name)
        elif self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            yield
        except TooManyRequests as refusal:
            self._full[name] = self._clock(), refusal
            raise
        finally:
            self._coming[name].remove(came)
            if not self._coming[name]:
                del self._coming[name]
                self._turns.pop(name, None)
                self._full.pop(name, None)
            self._fewer.set()

    def known(self, who: str, payer: UUID | None) -> None:
        """Who pays for it, or that it is no key: the next of the same is announced as it comes."""
        name = hash(who)
        if payer is None:
            self._payers.pop(name, None)
        elif name not in self._payers:
            if len(self._payers) >= PAYERS:
                self._payers.clear()
            self._payers[name] = payer
            self._announce(name)

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """Within `coming`: wait until fewer than `at_once` of `who` are inside, first come first
        served, and until nobody is to go first."""
        name = hash(who)
        async with self._turns.setdefault(name, asyncio.Semaphore(self._at_once)):
            await self._give_way(name)
            yield

    def _announce(self, name: int) -> None:
        if (payer := self._payers.get(name)) is not None:
            arrivals.tell(payer)

    async def _give_way(self, name: int) -> None:
        until = self._clock() + LONGEST_SECONDS
        while (left := until - self._clock()) > 0 and self._goes_first(name):
            self._fewer.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._fewer.wait()

    def _goes_first(self, name: int) -> bool:
        """Whether somebody without a crowd has just come, beside the crowd of `name`."""
        if len(self._coming[name]) < CROWD:
            return False
        since = self._clock() - LONGEST_SECONDS
        payer, at = self._elsewhere
        if at > since and payer != self._payers.get(name):
            return True
        return any(len(came) < CROWD and came[-1] > since for came in self._coming.values())

    async def _listen(self) -> None:
        """Hear of who came to other processes, while there is a crowd here."""
        with following().follow(arrivals.KEY) as follower:
            while any(len(came) >= CROWD for came in self._coming.values()):
                for name, fields in await follower.next(LISTEN_SECONDS):
                    if arrivals.is_new(name):
                        self._elsewhere = arrivals.payer_of(fields), self._clock()
