"""The benchmark of attribution measures what it says it measures."""

import numpy as np
import pytest

from attribution.influence.examples import IndexedExample
from bench.attribution.metrics import (
    Known,
    ceilings,
    correlations,
    interval,
    judge,
    ranks,
    ratio_interval,
    shares,
    variation,
)


def world(noise: float, seeds: int = 2, queries: int = 30, seed: int = 0):
    """Losses that are exactly linear in the records, and noise of each retraining."""
    draw = np.random.default_rng(seed)
    effect = draw.standard_normal((queries, 24))
    members = np.repeat(np.eye(4, dtype=bool), 6, axis=1)
    halves = draw.random((48, 24)) < 0.5

    def losses(kept):  # (runs, records) -> (runs, seeds, queries)
        exact = -(kept.astype(float) @ effect.T)[:, None, :]
        return exact + noise * draw.standard_normal((len(kept), seeds, queries))

    full = losses(np.ones((1, 24), dtype=bool))[0]
    return effect, Known(halves, losses(halves), losses(~members), full, members)


def test_the_truth_itself_is_judged_perfect():
    effect, known = world(noise=0)
    quality = judge(effect, effect @ known.members.T, known)
    for values in (quality.lds, quality.pearson, quality.spearman, quality.top1):
        assert values == pytest.approx(1)
    assert quality.variation == pytest.approx(0, abs=1e-9)


def test_the_opposite_of_the_truth_is_judged_worst():
    effect, known = world(noise=0)
    quality = judge(-effect, -effect @ known.members.T, known)
    assert quality.lds == pytest.approx(-1)
    assert quality.pearson == pytest.approx(-1)
    assert quality.variation == pytest.approx(1)


def test_what_knows_nothing_is_near_zero():
    _, known = world(noise=0, queries=200)
    blind = np.random.default_rng(1).standard_normal((200, 24))
    assert abs(judge(blind, blind @ known.members.T, known).lds.mean()) < 0.05


def test_the_ceiling_is_what_the_truth_itself_reaches():
    effect, known = world(noise=3.0, queries=200)
    found = ceilings(known)
    best = judge(effect, effect @ known.members.T, known)
    assert found["lds"] == pytest.approx(best.lds.mean(), abs=0.05)
    assert found["lds"] < 0.95
    assert ceilings(world(noise=0)[1]) == pytest.approx({"lds": 1, "pearson": 1})


def test_ranks_share_a_tie():
    assert ranks(np.array([[5.0, 1.0, 5.0, 9.0]])).tolist() == [[2.5, 1.0, 2.5, 4.0]]


def test_a_row_that_does_not_vary_correlates_with_nothing():
    assert correlations(np.ones((1, 3)), np.array([[1.0, 2.0, 3.0]])).tolist() == [0.0]


def test_only_help_earns_a_share():
    assert shares(np.array([[3.0, -1.0, 1.0], [-1.0, 0.0, -2.0]])).tolist() == [
        [0.75, 0.0, 0.25],
        [0.0, 0.0, 0.0],
    ]


def test_variation_is_the_part_of_the_money_that_goes_elsewhere():
    true = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    said = np.array([[1.0, 0.0, 1.0], [-1.0, -1.0, -1.0]])
    assert variation(said, true).tolist() == [0.5, 1.0]  # nobody is paid: all of it is missing


def test_intervals_hold_their_mean_and_ratios_are_paired():
    values = np.random.default_rng(0).random(44) + 1
    low, high = interval(values)
    assert low < values.mean() < high
    assert ratio_interval(0.9 * values, values) == pytest.approx((0.9, 0.9))


def test_a_curve_s_area_counts_pairs_and_equal_ones_half():
    pytest.importorskip("torch")
    from bench.attribution.mislabelled import auc

    suspicion = np.array([3.0, 2.0, 2.0, 1.0])
    assert auc(suspicion, np.array([True, False, False, False])) == 1
    assert auc(suspicion, np.array([False, True, False, False])) == 0.5
    assert auc(suspicion, np.array([False, False, False, True])) == 0


def test_wrong_answers_are_those_of_others_behind_the_own_question():
    pytest.importorskip("torch")
    from bench.attribution.mislabelled import mislabel

    records = [
        IndexedExample(f"r{n}", "g", [1, n, 100 + n, 2], [0, 0, 1, 1], str(n)) for n in range(10)
    ]
    found, wrong = mislabel(records)
    assert wrong.sum() == 2
    for old, new, is_wrong in zip(records, found, wrong, strict=True):
        assert list(new.input_ids[:2]) == list(old.input_ids[:2])
        assert (list(new.input_ids) != list(old.input_ids)) == is_wrong
    assert sorted(new.input_ids[2] for new in found) == [100 + n for n in range(10)]


def test_a_retraining_that_was_not_made_is_left_out_of_the_mean():
    effect, known = world(noise=0, seeds=2)
    halves, leave = known.half_losses.copy(), known.leave_losses.copy()
    halves[5:, 1], leave[2:, 1] = np.nan, np.nan
    unfinished = Known(known.halves, halves, leave, known.full_losses, known.members)
    quality = judge(effect, effect @ known.members.T, unfinished)
    assert quality.lds == pytest.approx(1)
    assert quality.pearson == pytest.approx(1)
    found = ceilings(unfinished)
    assert found["lds"] == pytest.approx(1)  # by the five subsets that have both seeds
    assert np.isnan(found["pearson"])


def test_planted_records_are_counted_among_the_strongest():
    from bench.attribution.planted import STRONGEST, precision

    owners = np.repeat([-1, 0, 1], [30, STRONGEST, STRONGEST]), np.array([0, 1])
    scores = np.zeros((2, 50))
    scores[0, 30:40] = 1  # the first query's own
    scores[1, :5], scores[1, 40:45] = 2, 1  # five that are nobody's, then five of its own
    hits, first = precision(scores, owners)
    assert hits.tolist() == [1.0, 0.5]
    assert first.tolist() == [1.0, 0.0]
