"""A key's requests take turns at being taken in; another key's are not behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, contextmanager
from uuid import uuid4

import pytest

from serving import arrivals
from serving.arrivals import LONGEST_SECONDS
from serving.errors import TooManyRequests
from serving.openai_api import starting as module
from serving.openai_api.starting import AT_ONCE, CROWD, FULL_SECONDS, Starting
from serving.streams import connection_of_this_process


@contextmanager
def a_crowd_of(starting: Starting, who: str):
    with ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(starting.coming(who))
        yield


@asynccontextmanager
async def taken_in(starting: Starting, who: str):
    with starting.coming(who):
        async with starting.turn(who):
            yield


def run(tell: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20):
            await tell()

    asyncio.run(whole())


def test_few_of_a_key_are_inside_and_another_comes_in_at_once():
    async def tell() -> list[str]:
        starting, inside, order = Starting(at_once=2), 0, []

        async def one(who: str, number: int) -> None:
            nonlocal inside
            async with taken_in(starting, who):
                inside += who == "flood"
                assert inside <= 2
                order.append(f"{who} {number}")
                await asyncio.sleep(0.01)
                inside -= who == "flood"

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(one("flood", number))
            group.create_task(one("other", 0))
        assert starting._turns == {}
        return order

    order = asyncio.run(tell())
    assert order.index("other 0") == 2
    assert [one for one in order if one[0] == "f"] == [f"flood {number}" for number in range(3)]


def test_one_that_is_cancelled_or_fails_leaves_its_place():
    async def tell() -> None:
        starting = Starting(at_once=1)
        with pytest.raises(ValueError, match="wrong"):
            async with taken_in(starting, "a"):
                raise ValueError("wrong")
        async with taken_in(starting, "a"):
            waiting = asyncio.ensure_future(taken_in(starting, "a").__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(1), taken_in(starting, "a"):
            pass
        assert starting._turns == {}

    run(tell)


def test_a_crowd_takes_no_turn_while_anothers_first_token_is_waited_for(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_SECONDS", 5.0)  # as much as a busy machine needs

    async def tell() -> None:
        starting, began = Starting(), asyncio.get_running_loop().time

        async def crowd(entered: list[float]) -> None:
            async with taken_in(starting, "flood"):
                entered.append(began())
                await asyncio.sleep(0.005)

        entered: list[float] = []
        with a_crowd_of(starting, "flood"), starting.coming("other"):
            tasks = [asyncio.create_task(crowd(entered)) for _ in range(2)]
            await asyncio.sleep(0.03)
            assert entered == []
            left = began()
        await asyncio.gather(*tasks)
        assert len(entered) == 2
        assert entered[0] - left < 2.5

    run(tell)


def test_a_crowd_waits_no_longer_than_it_may_whoever_comes(monkeypatch):
    longest = 5 * LONGEST_SECONDS  # a busy machine's slack is within one more turn
    monkeypatch.setattr(module, "LONGEST_SECONDS", longest)

    async def tell() -> None:
        starting = Starting()
        loop = asyncio.get_running_loop()

        async def others() -> None:
            while True:
                with starting.coming("other"):
                    await asyncio.sleep(0.01)

        async def crowd() -> None:
            async with taken_in(starting, "flood"):
                pass

        without_end = asyncio.create_task(others())
        await asyncio.sleep(0)
        began = loop.time()
        with a_crowd_of(starting, "flood"):
            await asyncio.gather(*[crowd() for _ in range(8)])
        turns = 8 / AT_ONCE
        assert 3 * longest < loop.time() - began < (turns + 1) * longest
        without_end.cancel()

    run(tell)


def test_who_comes_to_another_process_goes_first_here_too(monkeypatch):
    for one in (module, arrivals):
        monkeypatch.setattr(one, "LONGEST_SECONDS", 2.0)  # as much as a busy machine needs

    async def tell() -> None:
        here, there = Starting(), Starting()
        for key, payer in (("flood", uuid4()), ("other", uuid4())):
            for one in (here, there):
                one._payers[hash(key)] = payer
        entered: list[int] = []

        async def crowd(number: int) -> None:
            async with taken_in(here, "flood"):
                entered.append(number)
                await asyncio.sleep(0.02)

        tasks = [asyncio.create_task(crowd(number)) for number in range(200)]
        await asyncio.sleep(0.2)
        with there.coming("other"):
            await asyncio.sleep(0.6)
            before = len(entered)
            await asyncio.sleep(0.2)
            assert 0 < len(entered) == before < 200, "the crowd went on"
        await asyncio.gather(*tasks)

    run(tell)


def test_who_pays_is_told_once_it_is_known_and_not_for_a_crowd():
    client, payer = connection_of_this_process(), uuid4()

    def told() -> int:
        entries = client.xrevrange(arrivals.KEY, count=arrivals.KEEP)
        return sum(arrivals.payer_of(fields) == payer for _, fields in entries)

    async def comes_to(count: int) -> None:
        while told() < count:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert told() == count

    async def tell() -> None:
        starting = Starting()
        with starting.coming("key"):
            assert told() == 0
            starting.known("key", payer)
            await comes_to(1)
        with starting.coming("key"):
            await comes_to(2)
            # Those that make a crowd of it are not told of.
            with a_crowd_of(starting, "key"):
                await comes_to(2 + CROWD - 2)
        starting.known("key", None)
        before = told()
        with starting.coming("key"):
            await asyncio.sleep(0.1)
            assert told() == before

    run(tell)


def test_a_key_that_is_full_is_told_so_again_without_another_look():
    async def tell() -> None:
        now = 50.0
        starting = Starting(clock=lambda: now)
        with starting.coming("flood"):
            with pytest.raises(TooManyRequests), starting.coming("flood"):
                raise TooManyRequests("You have 64 requests that are not answered yet.")
            with pytest.raises(TooManyRequests, match="64 requests"), starting.coming("flood"):
                raise AssertionError("it was let in")
            with starting.coming("other"):
                pass
            now += FULL_SECONDS
            with starting.coming("flood"):
                pass
        # Nothing is left of it once nobody waits.
        with pytest.raises(TooManyRequests), starting.coming("flood"):
            raise TooManyRequests("full")
        with starting.coming("flood"):
            pass

    run(tell)
