"""Who asks much does not keep the others waiting."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from serving.engine.engine import Engine
from serving.engine.scheduler import Scheduler
from serving.engine.types import Finish
from serving.engine.waiting import LONGEST_WAIT, Waiting
from tests.serving.engine.conftest import prompt_of, request


class Asked:
    def __init__(self, owner: str) -> None:
        self.request = request("r", [5], owner=owner)


def served(waiting: Waiting, count: int, cost: float = 10.0) -> str:
    """The owners of the next rows, each charged when it is taken."""
    order = ""
    for _ in range(count):
        row = waiting.first()
        assert row is not None
        waiting.remove(row)
        waiting.charge(row.request.owner, cost)
        order += row.request.owner
    return order


def asks(waiting: Waiting, owners: str) -> None:
    for owner in owners:
        row: Any = Asked(owner)
        waiting.push(row)


def test_owners_take_turns():
    waiting = Waiting()
    asks(waiting, "aaaaabb")
    assert served(waiting, 7) == "ababaaa"


def test_who_pauses_saves_nothing_up():
    waiting = Waiting()
    asks(waiting, "a" * 20)
    assert served(waiting, 10) == "a" * 10
    asks(waiting, "b" * 10)
    assert served(waiting, 6) in ("ababab", "bababa")


def test_who_was_served_much_while_nobody_asked_is_not_shut_out():
    now = 0.0
    waiting = Waiting(lambda: now)
    asks(waiting, "b")
    waiting.charge("a", 10_000_000)
    asks(waiting, "aa" + "b" * 40)
    order = ""
    for _ in range(30):
        order += served(waiting, 1)
        now += 1.0
    assert order.count("a") == 2
    assert order.index("a") <= LONGEST_WAIT + 1


def test_a_flood_is_not_first_because_its_requests_are_old():
    now = 0.0
    waiting = Waiting(lambda: now)
    asks(waiting, "a" * 60)
    order = ""
    for _ in range(30):
        order += served(waiting, 1)
        now += 1.0
    asks(waiting, "b" * 5)
    assert served(waiting, 10).count("b") == 5


def test_a_deadline_ends_what_runs_and_what_waits(base_folder, monkeypatch):
    made = Engine(base_folder, max_active=1)
    plain = made.backend.forward
    monkeypatch.setattr(made.backend, "forward", lambda batch: time.sleep(0.01) or plain(batch))
    try:
        at = time.monotonic() + 0.3
        running = made.generate(request("r", prompt_of(5), max_tokens=10_000, deadline=at))
        waiting = made.generate(request("w", prompt_of(6), deadline=time.monotonic()))
        (last,) = list(waiting)
        assert (last.id, last.finish_reason) == (None, Finish.CANCELLED)
        tokens = list(running)
        assert tokens[-1].finish_reason is Finish.CANCELLED
        assert time.monotonic() >= at
        assert len(tokens) > 1
        late = list(made.generate(request("l", prompt_of(7), deadline=time.monotonic() + 60)))
        assert late[-1].finish_reason is Finish.LENGTH
    finally:
        made.close()


def test_a_flood_of_one_owner_does_not_delay_another(base_folder):
    made = Engine(base_folder, max_active=2)
    try:
        flood = [
            made.generate(request(f"f{n}", prompt_of(5), owner="flood", max_tokens=30))
            for n in range(40)
        ]
        next(flood[0])
        quick = list(made.generate(request("q", prompt_of(6), owner="calm", max_tokens=5)))
        left = made.residency().waiting
        for stream in flood:
            stream.close()
    finally:
        made.close()
    assert len(quick) == 5
    assert left > 25


def test_a_prompt_is_not_behind_all_that_another_owner_began(base_folder, monkeypatch):
    made = Engine(base_folder, max_active=6)
    scheduler = made._scheduler
    plain = scheduler._step
    begun: list[str] = []  # owners of prompts, in the order in which they are taken in

    def watched(rows):
        begun.extend(row.request.owner for row in rows if row in scheduler.prefilling)
        plain(rows)

    monkeypatch.setattr(scheduler, "_step", watched)
    try:
        with scheduler.lock:  # the first turn begins when all have come
            streams = [
                made.generate(request(f"{n}", prompt_of(150, n), owner=owner, max_tokens=2))
                for n, owner in enumerate("aaaab")
            ]
        for stream in streams:
            list(stream)
    finally:
        made.close()
    assert begun[0] == "b", begun


def test_a_stream_of_fresh_owners_never_keeps_a_prompt_out():
    def row(owner, seconds):
        begun = time.monotonic() - seconds
        return SimpleNamespace(request=SimpleNamespace(owner=owner), begun=begun)

    scheduler = Scheduler.__new__(Scheduler)
    scheduler.decoding, scheduler.prefilling = [], [row("a", 5), row("a", 5), row("fresh", 0)]
    assert [one.request.owner for one in scheduler._by_owner()] == ["fresh", "a", "a"]
    scheduler.prefilling = [row("a", LONGEST_WAIT + 1), row("a", 5), row("fresh", 0)]
    assert [one.request.owner for one in scheduler._by_owner()] == ["a", "fresh", "a"]
