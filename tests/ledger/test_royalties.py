"""What passes on to ancestors: exact, within the part that it comes from, and never in a circle."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import SelfRoyalty
from ledger.royalties import KEPT, Passing, Royalty, require_no_cycle, weigh

CHILD, PARENT, GRAND, GREAT, OTHER = (UUID(int=n) for n in range(1, 6))
LINE = {CHILD: [(PARENT, 10_000)], PARENT: [(GRAND, 10_000)], GRAND: [(GREAT, 10_000)]}


def fractions(root=CHILD, parents=LINE, **numbers) -> dict[UUID, Fraction]:
    whole, weights = weigh(root, parents, **{"basis_points": 1_000, "depth": 5} | numbers)
    return {node: Fraction(weight, whole) for node, weight in weights.items()}


def test_each_generation_passes_the_same_part_of_what_it_gets() -> None:
    tenth = Fraction(1, 10)
    assert fractions() == {
        PARENT: tenth * (1 - tenth),
        GRAND: tenth**2 * (1 - tenth),
        GREAT: tenth**3,
    }


def test_the_last_generation_within_the_depth_keeps_all() -> None:
    assert fractions(depth=1) == {PARENT: Fraction(1, 10)}
    assert fractions(depth=2) == {PARENT: Fraction(9, 100), GRAND: Fraction(1, 100)}
    assert fractions(depth=0) == {}
    assert fractions(basis_points=0) == {}


def test_a_merge_divides_by_its_weights_and_an_ancestor_on_two_ways_gets_both() -> None:
    merged = {CHILD: [(PARENT, 3_333), (OTHER, 6_667)], PARENT: [(GRAND, 10_000)],
              OTHER: [(GRAND, 10_000)]}  # fmt: skip
    found = fractions(parents=merged)
    assert found[PARENT] == Fraction(3_333, 100_000) * Fraction(9, 10)
    assert found[OTHER] == Fraction(6_667, 100_000) * Fraction(9, 10)
    assert found[GRAND] == Fraction(1, 100)


def test_what_a_taken_down_ancestor_would_keep_stays_with_who_passes_it_on() -> None:
    assert fractions(gone={PARENT}) == {GRAND: Fraction(9, 1_000), GREAT: Fraction(1, 1_000)}
    assert fractions(gone={GRAND}) == {
        PARENT: Fraction(9, 100) + Fraction(9, 1_000),
        GREAT: Fraction(1, 1_000),
    }
    assert fractions(gone={PARENT, GRAND, GREAT}) == {}


@st.composite
def trees(draw):
    """Families without circles: parents have higher numbers than their children."""
    size = draw(st.integers(1, 7))
    parents = {}
    for node in range(1, size):
        chosen = draw(st.lists(st.integers(node + 1, size), unique=True, max_size=3))
        if chosen:
            cuts = sorted(
                draw(
                    st.lists(
                        st.integers(1, 9_999), unique=True, min_size=len(chosen) - 1,
                        max_size=len(chosen) - 1,
                    )
                )
            )  # fmt: skip
            edges = [0, *cuts, 10_000]
            weights = [b - a for a, b in itertools.pairwise(edges)]
            parents[UUID(int=node)] = [
                (UUID(int=parent), weight) for parent, weight in zip(chosen, weights, strict=True)
            ]
    gone = draw(st.sets(st.integers(2, max(size, 2)).map(lambda n: UUID(int=n))))
    return parents, gone


@given(trees(), st.integers(0, 10_000), st.integers(0, 6), st.integers(0, 2**128), st.randoms())
def test_royalties_are_exact_and_never_more_than_what_may_pass(
    family, points: int, depth: int, amount: int, chance: random.Random
) -> None:
    parents, gone = family
    root = UUID(int=1)
    whole, weights = weigh(root, parents, basis_points=points, depth=depth, gone=gone)
    assert all(weight > 0 for weight in weights.values())
    assert Fraction(sum(weights.values()), whole) <= Fraction(points, 10_000)
    assert not weights.keys() & gone
    if not gone and depth and root in parents:
        assert Fraction(sum(weights.values()), whole) == Fraction(points, 10_000)

    royalties = [Royalty(node, node, weight) for node, weight in weights.items()]
    parts = Passing(whole, tuple(royalties)).divide(amount)
    assert sum(parts.values()) == amount
    assert all(part >= 0 for part in parts.values())
    for node, weight in weights.items():
        assert abs(parts[str(node)] - Fraction(amount * weight, whole)) < 1
    chance.shuffle(royalties)
    assert Passing(whole, tuple(royalties)).divide(amount) == parts


@pytest.mark.parametrize(
    "parents",
    [
        {CHILD: [(CHILD, 10_000)]},
        {CHILD: [(PARENT, 10_000)], PARENT: [(CHILD, 10_000)]},
        {CHILD: [(PARENT, 10_000)], PARENT: [(GRAND, 10_000)], GRAND: [(CHILD, 10_000)]},
    ],
)
def test_a_self_referring_royalty_is_refused(parents) -> None:
    with pytest.raises(SelfRoyalty, match="self-referring") as refusal:
        fractions(parents=parents)
    assert refusal.value.code == "self_royalty"
    with pytest.raises(SelfRoyalty, match="Choose another parent"):
        require_no_cycle(CHILD, parents[CHILD][0][0], parents)


def test_a_family_without_a_circle_is_taken() -> None:
    require_no_cycle(CHILD, PARENT, LINE)
    require_no_cycle(OTHER, PARENT, LINE)


@pytest.mark.parametrize("weights", [[5_000], [10_001], [10_000, 0], [-1, 10_001]])
def test_parents_that_make_no_whole_are_refused(weights) -> None:
    parents = {CHILD: list(zip((PARENT, OTHER), weights, strict=False))}
    with pytest.raises(ValueError):
        fractions(parents=parents)


@pytest.mark.parametrize(
    "royalties",
    [
        [(PARENT, 11)],
        [(PARENT, 6), (GRAND, 5)],
        [(PARENT, 0)],
        [(PARENT, -1)],
        [(PARENT, 1), (PARENT, 1)],
        [(PARENT, 1.0)],
        [(PARENT, True)],
    ],
)
def test_a_passing_that_cannot_be_is_refused(royalties) -> None:
    with pytest.raises(ValueError):
        Passing(10, tuple(Royalty(node, node, weight) for node, weight in royalties))
    assert Passing(10, (Royalty(PARENT, PARENT, 10),)).divide(7) == {KEPT: 0, str(PARENT): 7}
