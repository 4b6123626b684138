"""Many streams of Redis followed over one connection, by all requests of one event loop.

A reader of its own for each request costs a connection each, and for each piece of an answer a
command, a reply and a turn of the loop. Together they are one command that waits for all streams,
and the busier the process is the more pieces a reply brings.

A command that waits cannot be told of another stream, so beside the streams it waits for a bell, a
stream that is rung over a second connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import redis
import redis.asyncio
from django.conf import settings

logger = logging.getLogger(__name__)

# An entry's name in its stream, in the order of time, and what it says.
Name = tuple[int, int]
Entry = tuple[Name, dict[bytes, bytes]]

START: Name = (0, 0)
# How long the command waits before it is given anew: what is lost on its way is lost for so long.
BLOCK_SECONDS = 2.0
# After Redis did not answer.
PAUSE_SECONDS = 0.5
# The connections are kept for so long when nobody follows anything.
IDLE_SECONDS = 5.0
COUNT = 100
KEPT_SECONDS = 60


class Follower:
    """One reader's place in one stream."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.last = START
        self._entries: list[Entry] = []
        self._came = asyncio.Event()

    def hand(self, entries: list[Entry], since: Name) -> None:
        """Take what is new of entries that were read from `since` on. Nothing where that is behind
        this place: the command was given before this reader came."""
        if since > self.last:
            return
        new = [entry for entry in entries if entry[0] > self.last]
        if new:
            self.last = new[-1][0]
            self._entries += new
            self._came.set()

    async def next(self, seconds: float) -> list[Entry]:
        """All entries that came since the last call; none where none comes for `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._came.wait()
        self._came.clear()
        found, self._entries = self._entries, []
        return found


class Following:
    """For one event loop. What talks to Redis are tasks of its own: a request that is cancelled in
    the middle of a command would leave the reply in the connection for the next.
    """

    def __init__(self) -> None:
        self._followers: dict[str, list[Follower]] = defaultdict(list)
        self._bell = f"bell:{uuid4()}"
        self._rung = START
        # What is to be written to which stream, with how many entries that keeps.
        self._unsent: asyncio.Queue[tuple[str, dict[Any, Any], int]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, key: str) -> Iterator[Follower]:
        """Read a stream from its beginning, for as long as the block runs."""
        follower = Follower(key)
        self._followers[key].append(follower)
        self.tell(self._bell, {"rung": 1}, keep=1)
        try:
            yield follower
        finally:
            self._followers[key].remove(follower)
            if not self._followers[key]:
                del self._followers[key]

    def tell(self, key: str, fields: dict[Any, Any], *, keep: int) -> None:
        """Have an entry added to a stream soon; what Redis does not take is lost."""
        self._unsent.put_nowait((key, fields, keep))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        telling = asyncio.create_task(self._send())
        client = _client()
        used = time.monotonic()
        try:
            while time.monotonic() - used < IDLE_SECONDS:
                if self._followers:
                    used = time.monotonic()
                try:
                    await self._read(client)
                    _be_cancelled()
                except redis.RedisError:
                    # Who follows asks the database meanwhile.
                    logger.warning("the streams cannot be read", exc_info=True)
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            # Told twice, as where the loop ends, it would leave its connection half-closed.
            if not telling.cancelling():
                telling.cancel()
            await client.aclose()

    async def _send(self) -> None:
        client = _client()
        try:
            while True:
                key, fields, keep = await self._unsent.get()
                with contextlib.suppress(redis.RedisError):
                    async with client.pipeline(transaction=False) as pipe:
                        pipe.xadd(key, fields, maxlen=keep)
                        pipe.expire(key, KEPT_SECONDS)
                        await pipe.execute()
                _be_cancelled()
        finally:
            await client.aclose()

    async def _read(self, client: redis.asyncio.Redis) -> None:
        places = {key: min(one.last for one in many) for key, many in self._followers.items()}
        places[self._bell] = self._rung
        found: Any = await client.xread(
            {key: f"{ms}-{number}" for key, (ms, number) in places.items()},
            block=int(BLOCK_SECONDS * 1000),
            count=COUNT,
        )
        for name, raw in found or []:
            key, entries = name.decode(), [(_name(one), fields) for one, fields in raw]
            if key == self._bell:
                self._rung = entries[-1][0]
            for follower in self._followers.get(key, ()):
                follower.hand(entries, places[key])


_of_loop: dict[asyncio.AbstractEventLoop, Following] = {}


def following() -> Following:
    """That of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _of_loop.get(loop)
    if found is None:
        # What it holds of its loop keeps the loop alive, so ended ones are forgotten here.
        for ended in [one for one in _of_loop if one.is_closed()]:
            del _of_loop[ended]
        found = _of_loop[loop] = Following()
    return found


def _be_cancelled() -> None:
    """The Redis client swallows about one cancellation in ten; nobody must read on after one."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _client() -> redis.asyncio.Redis:
    """It says no more than it must when it connects: version 3's greeting and what the client
    tells of itself take a processor 2 ms.
    """
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        settings.REDIS_URL, protocol=2, driver_info=None
    )
    return client


def _name(told: bytes) -> Name:
    ms, _, number = told.partition(b"-")
    return int(ms), int(number)
