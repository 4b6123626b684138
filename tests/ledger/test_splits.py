"""Dividing a fee: exact, deterministic, indifferent to order."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.splits import Part, Split, divide

AMOUNTS = st.integers(min_value=0, max_value=2**256 - 1)
WEIGHTS = st.dictionaries(
    st.text(min_size=1, max_size=6), st.integers(min_value=0, max_value=10**12), min_size=1
).filter(lambda weights: sum(weights.values()) > 0)


@given(AMOUNTS, WEIGHTS)
def test_it_adds_up_to_the_amount(amount, weights):
    parts = divide(amount, list(weights.items()))

    assert sum(parts.values()) == amount
    assert set(parts) == set(weights)


@given(AMOUNTS, WEIGHTS)
def test_nobody_is_further_than_one_wei_from_the_exact_share(amount, weights):
    total = sum(weights.values())

    for key, part in divide(amount, list(weights.items())).items():
        assert abs(part * total - amount * weights[key]) < total


@given(AMOUNTS, WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_the_weights_changes_nothing(amount, weights, random):
    pairs = list(weights.items())
    shuffled = random.sample(pairs, len(pairs))

    assert divide(amount, pairs) == divide(amount, shuffled)


@given(AMOUNTS, WEIGHTS)
def test_more_weight_never_gets_less(amount, weights):
    parts = divide(amount, list(weights.items()))

    ranked = sorted(weights, key=lambda key: weights[key])
    for lighter, heavier in pairwise(ranked):
        if weights[lighter] < weights[heavier]:
            assert parts[lighter] <= parts[heavier]


def test_the_wei_left_over_goes_to_the_largest_remainder():
    # exact shares 3.5, 2.1, 1.4: the floors leave one wei, and 0.5 is the largest loss
    assert divide(7, [("a", 50), ("b", 30), ("c", 20)]) == {"a": 4, "b": 2, "c": 1}


def test_equal_remainders_are_ordered_by_id():
    assert divide(2, [("c", 1), ("a", 1), ("b", 1)]) == {"a": 1, "b": 1, "c": 0}


def test_a_weight_of_zero_gets_nothing_even_where_wei_are_left_over():
    assert divide(1, [("a", 0), ("b", 1), ("c", 1)]) == {"a": 0, "b": 1, "c": 0}


@pytest.mark.parametrize(
    ("amount", "weights"),
    [
        (-1, [("a", 1)]),
        (1.0, [("a", 1)]),
        (True, [("a", 1)]),
        (1, [("a", 1), ("a", 2)]),
        (1, [("a", -1), ("b", 2)]),
        (1, [("a", 0.5)]),
        (1, [("a", 0)]),
        (1, []),
    ],
)
def test_it_refuses_what_cannot_be_divided(amount, weights):
    with pytest.raises(ValueError, match=r"\."):
        divide(amount, weights)


FAIR = (
    Part("platform", 1000),
    Part("model_owner", 2000),
    Part("stakers", 2000),
    Part("contributors", 5000),
)


@given(AMOUNTS, st.permutations(FAIR))
def test_the_order_of_the_parts_of_a_split_changes_nothing(fee, parts):
    amounts = Split(1, tuple(parts)).amounts(fee)

    assert amounts == Split(1, FAIR).amounts(fee)
    assert sum(amounts.values()) == fee


def test_a_receiver_that_the_split_does_not_name_gets_nothing():
    split = Split(1, (Part("platform", 10_000),))

    assert split.amounts(7) == {"platform": 7, "model_owner": 0, "stakers": 0, "contributors": 0}


@pytest.mark.parametrize(
    "parts",
    [
        (Part("platform", 9_999),),
        (Part("platform", 5_000), Part("platform", 5_000)),
        (),
    ],
)
def test_it_refuses_a_split_that_does_not_make_a_whole(parts):
    with pytest.raises(ValueError, match="split"):
        Split(1, parts)


@pytest.mark.parametrize(
    ("kind", "points"), [("nobody", 1), ("platform", -1), ("platform", 10_001), ("platform", 0.5)]
)
def test_it_refuses_a_part_that_makes_no_sense(kind, points):
    with pytest.raises(ValueError, match="part"):
        Part(kind, points)
