"""How right predicted influences are, against retrainings. Higher is better but for variation.

Every figure is a value for each query, so that two methods can be compared query by query:
`interval` is a percentile bootstrap over queries, `ratio_interval` the same for a ratio of means
with the same queries drawn on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Quality:
    """Each (queries,): `lds` by halves; the others by contributors left out."""

    lds: Doubles
    pearson: Doubles
    spearman: Doubles
    top1: Doubles
    variation: Doubles


@dataclass(frozen=True, slots=True)
class Known:
    """The truth for some queries. ``halves`` (subsets, records); ``half_losses`` (subsets, seeds,
    queries); ``leave_losses`` (groups, seeds, queries); ``full_losses`` (seeds, queries);
    ``members`` (groups, records) says whose record is whose. A retraining that was not made is
    NaN; means are over the seeds that are there."""

    halves: NDArray[np.bool_]
    half_losses: Doubles
    leave_losses: Doubles
    full_losses: Doubles
    members: NDArray[np.bool_]

    def of(self, queries: slice) -> Known:
        return Known(
            self.halves,
            self.half_losses[:, :, queries],
            self.leave_losses[:, :, queries],
            self.full_losses[:, queries],
            self.members,
        )

    @property
    def effects(self) -> Doubles:
        """How much dearer an answer gets without a group, (queries, groups)."""
        found: Doubles = np.nanmean(self.leave_losses - self.full_losses, axis=1).T
        return found


def judge(records: Doubles, groups: Doubles, known: Known) -> Quality:
    """``records`` (queries, records) are summed over halves; ``groups`` (queries, groups)."""
    return judge_subsets(records @ known.halves.T.astype(np.float64), groups, known)


def judge_subsets(predicted: Doubles, groups: Doubles, known: Known) -> Quality:
    """``predicted`` (queries, subsets) for each half as a whole, however it was found."""
    true = -np.nanmean(known.half_losses, axis=1).T
    effects = known.effects
    return Quality(
        lds=correlations(ranks(predicted), ranks(true)),
        pearson=correlations(groups, effects),
        spearman=correlations(ranks(groups), ranks(effects)),
        top1=(groups.argmax(axis=1) == effects.argmax(axis=1)).astype(np.float64),
        variation=variation(groups, effects),
    )


def ceilings(known: Known) -> dict[str, float]:
    """What a perfect method could reach, since the truth itself is a noisy mean over seeds: the
    root of its reliability, by Spearman and Brown from two parts of the seeds. NaN for one seed.
    Of an unfinished truth the subsets with all seeds are asked, and groups if all are there."""
    found = {"lds": float("nan"), "pearson": float("nan")}
    whole = known.half_losses[~np.isnan(known.half_losses).any(axis=(1, 2))]
    if whole.shape[1] > 1 and len(whole) > 2:
        first, second = (whole[:, part, :].T for part in (0, 1))
        found["lds"] = _ceiling(correlations(ranks(first), ranks(second)))
    effects = known.leave_losses - known.full_losses
    seeds = effects.shape[1]
    if seeds > 1 and not np.isnan(effects).any():
        each = effects.transpose(1, 2, 0)
        middle = seeds // 2
        first, second = each[:middle].mean(axis=0), each[middle : 2 * middle].mean(axis=0)
        found["pearson"] = _ceiling(correlations(first, second))
    return found


def _ceiling(between: Doubles) -> float:
    mean = max(0.0, float(between.mean()))
    return float(np.sqrt(2 * mean / (1 + mean)))


def shares(values: Doubles) -> Doubles:
    """Positive parts that add up to one in each row; a row without any stays zero."""
    positive = np.maximum(values, 0.0)
    totals = positive.sum(axis=1, keepdims=True)
    return np.divide(positive, totals, out=np.zeros_like(positive), where=totals > 0)


def variation(first: Doubles, second: Doubles) -> Doubles:
    """Total variation of the shares of each row: which part of the money goes elsewhere."""
    a, b = shares(first), shares(second)
    missing = np.abs(a.sum(axis=1) - b.sum(axis=1))
    found: Doubles = 0.5 * (np.abs(a - b).sum(axis=1) + missing)
    return found


def correlations(first: Doubles, second: Doubles) -> Doubles:
    """Pearson's, row by row; zero where a row does not vary."""
    a = first - first.mean(axis=1, keepdims=True)
    b = second - second.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: Doubles = np.divide(
        (a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0
    )
    return found


def ranks(values: Doubles) -> Doubles:
    """Ranks in each row, equal values the mean of theirs."""
    found = np.empty(values.shape)
    for row, line in enumerate(values):
        _, inverse, counts = np.unique(line, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        found[row] = (ends - (counts - 1) / 2)[inverse]
    return found


def interval(values: Doubles, level: float = 0.95) -> tuple[float, float]:
    return _percentiles(values[_draws(len(values))].mean(axis=1), level)


def ratio_interval(ours: Doubles, peer: Doubles, level: float = 0.95) -> tuple[float, float]:
    drawn = _draws(len(ours))
    return _percentiles(ours[drawn].mean(axis=1) / peer[drawn].mean(axis=1), level)


def _draws(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, count, (DRAWS, count))


def _percentiles(values: Doubles, level: float) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
