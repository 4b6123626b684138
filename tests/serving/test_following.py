"""All requests of one event loop follow their streams over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
import redis

from serving import following as module
from serving.following import Entry, Follower, following
from serving.streams import connection_of_this_process


@pytest.fixture
def stream() -> str:
    return f"test:{uuid4()}"


def add(key: str, **fields: object) -> None:
    client = connection_of_this_process()
    client.xadd(key, fields)
    client.expire(key, 60)


def texts(entries: list[Entry]) -> list[str]:
    return [fields[b"text"].decode() for _, fields in entries]


async def until(follower: Follower, count: int) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += texts(await follower.next(5))
    return found


def run(tell: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20):
            await tell()

    asyncio.run(whole())


def test_what_was_written_before_is_read_first_and_what_comes_is_read_as_it_comes(stream):
    add(stream, text="one")
    add(stream, text="two")

    async def tell() -> None:
        with following().follow(stream) as follower:
            assert await until(follower, 2) == ["one", "two"]
            add(stream, text="three")
            assert await until(follower, 1) == ["three"]

    run(tell)


def test_whoever_joins_while_the_others_wait_is_served_at_once(stream, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SECONDS", 30.0)  # so that only the bell can wake it
    late = f"test:{uuid4()}"

    async def tell() -> None:
        with following().follow(stream) as first:
            add(stream, text="begun")
            await until(first, 1)
            await asyncio.sleep(0.1)  # it waits for more of the first stream now
            add(late, text="late")
            with following().follow(late) as second:
                async with asyncio.timeout(2):
                    assert await until(second, 1) == ["late"]

    run(tell)


def test_two_who_follow_the_same_stream_have_all_of_it_each(stream):
    add(stream, text="one")

    async def tell() -> None:
        with following().follow(stream) as early:
            assert await until(early, 1) == ["one"]
            with following().follow(stream) as late:
                add(stream, text="two")
                assert await until(late, 2) == ["one", "two"]
                assert await until(early, 1) == ["two"]

    run(tell)


def test_many_share_two_connections_and_leave_none(stream, monkeypatch):
    plain, made = module._client, []

    def noted():
        made.append(plain())
        return made[-1]

    monkeypatch.setattr(module, "_client", noted)
    keys = [f"{stream}:{number}" for number in range(20)]

    async def tell() -> None:
        async def one(key: str) -> None:
            with following().follow(key) as follower:
                await until(follower, 1)

        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(one(key))
            await asyncio.sleep(0.2)
            for key in keys:
                add(key, text=key)

    run(tell)
    assert len(made) == 2
    pools = [client.connection_pool for client in made]
    held = [
        one for pool in pools for one in (*pool._available_connections, *pool._in_use_connections)
    ]
    assert len(held) <= 2
    assert not any(one.is_connected for one in held)


def test_silence_ends_with_nothing_and_a_cancelled_one_is_forgotten(stream):
    async def tell() -> None:
        with following().follow(stream) as follower:
            assert await follower.next(0.05) == []
            waiting = asyncio.ensure_future(follower.next(10))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert dict(following()._followers) == {}

    run(tell)


def test_redis_may_be_away_for_a_moment(stream, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.05)
    plain, failures = module.Following._read, [1, 1]

    async def failing(self, client):
        if failures:
            failures.pop()
            raise redis.ConnectionError("away")
        return await plain(self, client)

    monkeypatch.setattr(module.Following, "_read", failing)
    add(stream, text="one")

    async def tell() -> None:
        with following().follow(stream) as follower:
            assert await until(follower, 1) == ["one"]

    run(tell)
