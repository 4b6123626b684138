"""Few requests of one key are taken in at the same time, so that a flood is not everybody's wait.

Checking a key, counting tokens and holding money keep a process busy for some milliseconds each. A
key's own requests take turns at that; another's are not behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

AT_ONCE = 2


class Starting:
    """For one event loop."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._turns: dict[int, asyncio.Semaphore] = {}
        self._waiting: dict[int, int] = {}

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """Wait until fewer than `at_once` of `who` are inside, first come first served."""
        name = hash(who)
        turns = self._turns.setdefault(name, asyncio.Semaphore(self._at_once))
        self._waiting[name] = self._waiting.get(name, 0) + 1
        try:
            async with turns:
                yield
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name], self._turns[name]
