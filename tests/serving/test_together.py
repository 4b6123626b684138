"""Threads that end at the same moment share one transaction, and nobody waits for nothing."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.together import Together

PATIENCE = 10


class Work:
    """Doubles numbers; refuses odd ones, and holds its first call until it may go on."""

    def __init__(self):
        self.calls = []
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, items):
        self.calls.append(list(items))
        if len(self.calls) == 1:
            self.began.set()
            assert self.may_go_on.wait(PATIENCE)
        if any(item % 2 for item in items):
            raise ValueError(f"{items}")
        return [2 * item for item in items]


def wait_until(holds):
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def run(items, *, at_once=64):
    """Each item from a thread of its own, the others once the first is being worked for."""
    work = Work()
    together = Together(work, at_once=at_once)
    with ThreadPoolExecutor(len(items)) as pool:
        first = pool.submit(together, items[0])
        assert work.began.wait(PATIENCE)
        others = [pool.submit(together, item) for item in items[1:]]
        wait_until(lambda: len(together._waiting) == len(items) - 1)
        work.may_go_on.set()
        return work, [first, *others]


def test_who_comes_alone_is_served_at_once_and_alone():
    work = Work()
    work.may_go_on.set()
    together = Together(work)
    assert [together(2), together(4)] == [4, 8]
    assert work.calls == [[2], [4]]


def test_who_comes_meanwhile_is_taken_together():
    work, answers = run([2, 4, 6, 8])
    assert [one.result(PATIENCE) for one in answers] == [4, 8, 12, 16]
    assert work.calls[0] == [2]
    assert sorted(work.calls[1]) == [4, 6, 8]
    assert len(work.calls) == 2


def test_more_than_go_at_once_are_handed_on():
    work, answers = run([2, 4, 6, 8, 10, 12], at_once=2)
    assert [one.result(PATIENCE) for one in answers] == [4, 8, 12, 16, 20, 24]
    assert [len(call) for call in work.calls] == [1, 2, 2, 1]


def test_one_that_is_refused_takes_no_other_along():
    work, answers = run([2, 4, 5, 6])
    assert [answers[n].result(PATIENCE) for n in (0, 1, 3)] == [4, 8, 12]
    with pytest.raises(ValueError, match=r"^\[5\]$"):
        answers[2].result(PATIENCE)
    assert len(work.calls) == 5  # alone, together, and each of three for itself


def test_after_a_refusal_the_next_is_served():
    work = Work()
    work.may_go_on.set()
    together = Together(work)
    with pytest.raises(ValueError, match="3"):
        together(3)
    assert together(2) == 4
