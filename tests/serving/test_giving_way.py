"""Whoever has most of a worker's places stands still while another's request is on its way."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from accounts.models import User
from serving import arrivals, giving_way
from serving.arrivals import LONGEST_SECONDS
from serving.giving_way import GivingWay
from serving.models import Completion
from serving.streams import connection_of_this_process
from serving.turns import Turns

FLOOD, OTHER = uuid4(), uuid4()


@dataclass
class Told:
    """An engine that writes down what it is told."""

    events: list[str] = field(default_factory=list)

    def hold(self, owner: str, seconds: float) -> None:
        assert seconds == giving_way.LONGEST_SECONDS
        self.events.append("flood" if owner == str(FLOOD) else "other")

    def go_on(self) -> None:
        self.events.append("go on")


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.engine = Told()
        self.turns = Turns(most=16)
        self.way = GivingWay(self.turns, lambda: [self.engine], lambda: self.now)
        self._answering = ExitStack()

    def answer(self, payer: UUID, count: int) -> None:
        for _ in range(count):
            self.turns._starting += 1
            self._answering.enter_context(self.turns.taken(Completion(payer_id=payer)))


@pytest.fixture
def world() -> World:
    return World()


def test_the_flood_stands_still_until_the_others_first_token(world):
    world.answer(FLOOD, 12)
    world.way.coming(OTHER)
    world.way.begun(FLOOD)  # a piece of an answer that runs is no first token of the other's
    assert world.engine.events == ["flood"]
    world.way.begun(OTHER)
    assert world.engine.events == ["flood", "go on"]


@pytest.mark.parametrize(
    ("flood", "others"),
    [(0, 0), (2, 0), (3, 4)],
    ids=["nobody", "too few to be a flood", "less than half"],
)
def test_nobody_gives_way_who_has_no_more_than_a_fair_part(world, flood, others):
    world.answer(FLOOD, flood)
    for _ in range(others):
        world.answer(uuid4(), 1)
    world.way.coming(OTHER)
    assert world.engine.events == []


def test_the_floods_own_requests_and_those_of_who_is_answered_already_stop_nothing(world):
    world.answer(FLOOD, 12)
    world.answer(OTHER, 1)
    world.way.coming(FLOOD)
    world.way.coming(OTHER)
    assert world.engine.events == []


def test_a_stream_of_others_stops_it_for_half_of_the_time_at_most(world):
    world.answer(FLOOD, 12)
    stopped = 0.0
    for _ in range(1000):
        before = len(world.engine.events)
        world.way.coming(uuid4())
        stopped += LONGEST_SECONDS * (len(world.engine.events) - before)
        world.now += 0.01
    assert 0 < stopped <= 5.0 + LONGEST_SECONDS


def test_a_short_stop_is_followed_by_a_short_time_without(world):
    world.answer(FLOOD, 12)
    world.way.coming(OTHER)
    world.now += 0.02
    world.way.begun(OTHER)
    world.way.coming(OTHER)
    assert world.engine.events == ["flood", "go on"]
    world.now += 0.021
    world.way.coming(OTHER)
    assert world.engine.events == ["flood", "go on", "flood"]


def test_what_can_wait_waits_for_the_first_token_and_not_longer_than_it_may(monkeypatch):
    monkeypatch.setattr(giving_way, "LONGEST_SECONDS", 1.0)  # as much as a busy machine needs
    world = World()
    way = GivingWay(world.turns, lambda: [world.engine])
    world.answer(FLOOD, 12)
    way.wait(FLOOD)
    way.coming(OTHER)
    began = time.monotonic()
    way.wait(OTHER)  # the other's own work does not wait
    assert time.monotonic() - began < 0.5
    threading.Timer(0.02, way.begun, [OTHER]).start()
    way.wait(FLOOD)
    held = time.monotonic() - began
    assert 0.015 < held < 0.9
    time.sleep(held + 0.05)
    began = time.monotonic()
    way.coming(OTHER)
    way.wait()
    assert time.monotonic() - began > 0.95


def test_a_worker_hears_of_who_came_to_the_web(world):
    world.answer(FLOOD, 12)
    way = GivingWay(world.turns, lambda: [world.engine])
    way.start()
    until = time.monotonic() + 5
    while not world.engine.events and time.monotonic() < until:
        connection_of_this_process().xadd(arrivals.KEY, arrivals.entry(OTHER), maxlen=64)
        time.sleep(0.05)
    assert world.engine.events[0] == "flood"


@pytest.mark.django_db(transaction=True)
async def test_a_question_in_the_playground_is_told_of_too(async_client):
    client = connection_of_this_process()
    asker = await User.objects.acreate(email="asker@example.test", handle="asker")
    await async_client.aforce_login(asker)
    await async_client.post("/playground/ask/", {"model": "none"}, "application/json")
    await asyncio.sleep(0.2)
    entries = client.xrevrange(arrivals.KEY, count=arrivals.KEEP)
    assert asker.pk in [arrivals.payer_of(fields) for _, fields in entries]
