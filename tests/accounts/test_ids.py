"""Identifiers sort by the time of their making."""

import time
import uuid
from itertools import pairwise

from accounts.ids import uuid7


def test_it_is_a_uuid_of_version_7() -> None:
    made = uuid7()
    assert made.version == 7
    assert made.variant == uuid.RFC_4122


def test_later_ones_sort_later() -> None:
    early = uuid7()
    time.sleep(0.002)
    assert early < uuid7()


def test_it_carries_the_time() -> None:
    before = time.time_ns() // 1_000_000
    stamp = uuid7().int >> 80
    assert before <= stamp <= time.time_ns() // 1_000_000


def test_no_two_are_equal() -> None:
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_those_of_one_moment_have_the_order_of_their_making() -> None:
    made = [uuid7() for _ in range(2_000)]
    # A clock may be coarse, or be set back: at random it would be half of them.
    assert sum(a > b for a, b in pairwise(made)) < 100
