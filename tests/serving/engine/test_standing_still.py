"""An owner's rows can be made to stand still for a moment, and lose nothing by it."""

from __future__ import annotations

import time

import pytest

from serving.engine.engine import Engine
from serving.engine.types import Finish, Request

PROMPT = (1, 40, 41, 42)


@pytest.fixture
def engine(base_folder):
    with_lock = Engine(base_folder, max_active=4)
    yield with_lock
    with_lock.close()


def asked(name: str, owner: str, tokens: int = 40) -> Request:
    return Request(name, PROMPT, max_tokens=tokens, temperature=0.0, ignore_end=True, owner=owner)


def ids(stream) -> list[int | None]:
    return [token.id for token in stream]


def test_its_tokens_are_the_same_and_the_others_go_on_meanwhile(engine):
    plain = ids(engine.generate(asked("plain", "a")))
    held = engine.generate(asked("held", "flood"))
    first = next(held)
    engine.hold("flood", 30.0)
    assert ids(engine.generate(asked("other", "b"))) == plain
    behind = len(plain) - 1 - held._row.out.qsize()
    assert behind > 0, "it went on though it was to stand still"
    engine.go_on()
    assert [first.id, *ids(held)] == plain


def test_it_goes_on_by_itself_after_the_time(engine):
    began = time.monotonic()
    engine.hold("flood", 0.3)
    assert len(ids(engine.generate(asked("held", "flood", 4)))) == 4
    assert 0.3 <= time.monotonic() - began < 5.0


def test_one_that_stands_still_can_be_cancelled_and_can_run_out_of_time(engine):
    stream = engine.generate(asked("held", "flood", 150))
    next(stream)
    engine.hold("flood", 60.0)
    engine.cancel("held")
    assert list(stream)[-1].finish_reason is Finish.CANCELLED
    engine.hold("flood", 60.0)
    late = Request("late", PROMPT, max_tokens=9, owner="flood", deadline=time.monotonic() + 0.1)
    assert list(engine.generate(late))[-1].finish_reason is Finish.CANCELLED


def test_tokens_gather_for_a_moment_or_until_the_last_is_there(engine):
    with engine.generate(asked("one", "a", 8)) as tokens:
        next(tokens)
        began = time.monotonic()
        tokens.gather(30.0)
        assert time.monotonic() - began < 10.0
        rest = list(tokens)
    assert (len(rest), rest[-1].finish_reason) == (7, Finish.LENGTH)
    assert all(one.at > 0 for one in rest)
