"""A key's requests take turns at being taken in; another key's are not behind them."""

from __future__ import annotations

import asyncio

import pytest

from serving.openai_api.starting import Starting


def test_few_of_a_key_are_inside_and_another_comes_in_at_once():
    async def tell() -> list[str]:
        starting, inside, order = Starting(at_once=2), 0, []

        async def one(who: str, number: int) -> None:
            nonlocal inside
            async with starting.turn(who):
                inside += who == "flood"
                assert inside <= 2
                order.append(f"{who} {number}")
                await asyncio.sleep(0.01)
                inside -= who == "flood"

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(one("flood", number))
            group.create_task(one("other", 0))
        assert starting._turns == {}
        return order

    order = asyncio.run(tell())
    assert order.index("other 0") == 2
    assert [one for one in order if one[0] == "f"] == [f"flood {number}" for number in range(6)]


def test_one_that_is_cancelled_or_fails_leaves_its_place():
    async def tell() -> None:
        starting = Starting(at_once=1)
        with pytest.raises(ValueError, match="wrong"):
            async with starting.turn("a"):
                raise ValueError("wrong")
        async with starting.turn("a"):
            waiting = asyncio.ensure_future(starting.turn("a").__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(1), starting.turn("a"):
            pass
        assert starting._turns == {}

    asyncio.run(tell())
