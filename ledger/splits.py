"""How a fee is divided, to the wei.

Everything here is integer arithmetic on plain values, so that anyone who holds an entry and the
parameters in force can compute the same amounts again. A fee is divided by *largest remainder*:
each part gets the floor of its exact share, and the wei that are left over go one by one to the
parts whose exact share lost most by the floor; equal losses are ordered by id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

PartKind = Literal["platform", "model_owner", "stakers", "contributors"]
PART_KINDS: frozenset[str] = frozenset(get_args(PartKind))
BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """One receiver's part of every fee, in basis points (1/10,000)."""

    kind: PartKind
    basis_points: int

    def __post_init__(self) -> None:
        if self.kind not in PART_KINDS:
            raise ValueError(f"A split has no part called {self.kind!r}.")
        if not _is_whole(self.basis_points) or not 0 <= self.basis_points <= BASIS_POINTS:
            raise ValueError(f"The part of {self.kind} must be 0 to {BASIS_POINTS} basis points.")


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of a fee under one version of the governed parameters.

    Raises ValueError where the parts do not make up exactly 10,000 basis points or name one
    receiver twice. The order of the parts has no meaning.
    """

    version: int
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        kinds = [part.kind for part in self.parts]
        if len(set(kinds)) != len(kinds):
            raise ValueError("A split names each receiver once.")
        total = sum(part.basis_points for part in self.parts)
        if total != BASIS_POINTS:
            raise ValueError(f"A split adds up to {BASIS_POINTS} basis points, not {total}.")

    def amounts(self, fee: int) -> dict[PartKind, int]:
        """Wei of `fee` for each part; a receiver that the split does not name gets 0."""
        amounts: dict[PartKind, int] = dict.fromkeys(get_args(PartKind), 0)
        divided = divide(fee, [(part.kind, part.basis_points) for part in self.parts])
        amounts.update({part.kind: divided[part.kind] for part in self.parts})
        return amounts


def divide(amount: int, weights: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Divide `amount` in proportion to `weights`, exactly, by largest remainder, ties by id.

    `weights` are (id, weight) pairs with distinct ids and whole weights of 0 or more, at least
    one of them positive. The result has every id, adds up to `amount`, and does not depend on
    the order of the pairs; an id of weight 0 gets 0.

    Raises ValueError for a negative amount, a float, a repeated id or weights without a sum.
    """
    if not _is_whole(amount) or amount < 0:
        raise ValueError("Only a whole amount of 0 or more can be divided.")
    by_id = dict(weights)
    if len(by_id) != len(weights):
        raise ValueError("An id stands twice among the weights.")
    if not all(_is_whole(weight) and weight >= 0 for weight in by_id.values()):
        raise ValueError("Weights are whole numbers of 0 or more.")
    total = sum(by_id.values())
    if total == 0:
        raise ValueError("The weights add up to nothing.")

    parts = {key: amount * weight // total for key, weight in by_id.items()}
    left = amount - sum(parts.values())
    by_loss = sorted(by_id, key=lambda key: (-(amount * by_id[key] % total), key))
    for key in by_loss[:left]:
        parts[key] += 1
    return parts


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
