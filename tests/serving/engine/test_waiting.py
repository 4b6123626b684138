"""Who asks much does not keep the others waiting."""

from __future__ import annotations

from typing import Any

from serving.engine.engine import Engine
from serving.engine.waiting import Waiting
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
