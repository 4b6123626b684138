"""The ten steps in their order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from config.tour import answers, data, money, rules, training
from config.tour.journey import Journey


@dataclass(frozen=True)
class Step:
    """`walk` does it and returns its figures; integers of wei are strings of digits."""

    number: int
    title: str
    walk: Callable[[Journey], dict[str, Any]]


STEPS = (
    Step(1, "Contribute", data.contribute),
    Step(2, "Review", data.review),
    Step(3, "Version", data.freeze),
    Step(4, "Train", training.train),
    Step(5, "Ask", answers.ask),
    Step(6, "Attribute", answers.attribute),
    Step(7, "Split", money.books),
    Step(8, "Distribute", money.distribute),
    Step(9, "Claim", money.claim),
    Step(10, "Govern", rules.change_the_split),
)
