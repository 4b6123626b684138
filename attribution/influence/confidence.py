"""Whether an answer's influence is more than what any text has on any records. No torch.

Gradients of one network resemble one another, so that every text has some influence on every
record. How much is learned once, when the index is built, from *foreign records*: questions with
answers that the model did not learn and did not write. Their sketches are scored against every
record; what a record usually gets from them (mean and deviation) is its null.

    u   = score / |answer's sketch|                      per record
    z   = (u - mean) / deviation                         per record, from its null
    r   = z without its part along the DIRECTIONS, over its deviation
    h   = mean of the TOP largest r of the group         per group
    H   = (h - mean) / deviation                         per group, of the same of foreign records

The directions are those along which foreign records differ most in what they get from all records
together: what a text has of them says what kind of text it is, not whose records shaped it.

The influence is *clear* where the largest H is above ``threshold``, which at most ``LEVEL`` of the
foreign records reach, each judged by a null without itself and an eighth of the others.

The second null is of *permuted labels*: had the groups' names been dealt out to the records at
random, the sum of a group's u would have a mean and a deviation that are known exactly (drawing
without replacement). ``apart`` is how many of these deviations a group stands above it: whether it
is this contributor's records that matter, or as well anybody's. It is told and decides nothing.

The null stands in the index and under its root. Judging an answer by it is integer arithmetic in
thousandths, rounded down, the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.influence import scores
from attribution.influence.quantise import Query

METHOD = "foreign-records"
# 1: no directions, and the ten largest. An index keeps the version, level and count that it states.
VERSION = 2
LEVEL = 30_000  # parts of a million; chosen by `bench.confidence --develop`, as are the next two
TOP = 20
DIRECTIONS = 8  # at most, and one for every EACH records
EACH = 16
FOLDS = 8  # of the foreign records, each judged by a null of the others
SCALE = 2**20  # of a direction whose squares add up to one
FURTHEST = 1_000_000  # thousandths of a deviation; with it no product leaves 64 bits
FEWEST = 50  # foreign records; below 99 the threshold is their highest, and the level coarser
UNIT = 1_000

Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Null:
    """What foreign records get. ``records`` has mean and deviation of each record in units of u,
    and, where there are directions, the deviation of what they leave in thousandths of z and each
    direction: (records, 2) or (records, 3 + directions). ``groups`` (groups, 2) are mean and
    deviation in thousandths; ``count`` is how many foreign records there were, ``foreign_sha256``
    what they were; ``level`` the part of a million that reaches the threshold."""

    records: Whole
    groups: Whole
    threshold: int
    count: int
    foreign_sha256: str
    level: int
    top: int
    version: int

    def published(self, records_sha256: str) -> dict[str, Any]:
        """As it stands in the index's header, which its root commits to."""
        return {
            "method": METHOD,
            "version": self.version,
            "level_ppm": self.level,
            "top": self.top,
            "threshold": self.threshold,
            "foreign_records": self.count,
            "foreign_sha256": self.foreign_sha256,
            "groups": self.groups.tolist(),
            "null_sha256": records_sha256,
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any], records: Whole) -> Null:
        return cls(
            records,
            np.array(stated["groups"], dtype=np.int64).reshape(-1, 2),
            int(stated["threshold"]),
            int(stated["foreign_records"]),
            str(stated["foreign_sha256"]),
            int(stated["level_ppm"]),
            int(stated["top"]),
            int(stated["version"]),
        )


@dataclass(frozen=True, slots=True)
class Confidence:
    """Thousandths of a deviation by group: ``scores`` over the null of foreign records, ``apart``
    over that of permuted labels (empty where one group has all records). ``level`` and ``version``
    are those of the null."""

    clear: bool
    threshold: int
    scores: dict[str, int]
    apart: dict[str, int]
    level: int
    version: int


def fit(
    queries: Sequence[Query],
    codes: NDArray[np.uint8],
    norms: NDArray[np.uint16],
    weights: NDArray[np.uint8],
    rows_of: Sequence[slice],
    foreign_sha256: str,
    block: int = 1,
    rate: int = 1,
    twice: int = 0,
) -> Null:
    """The null of an index from the sketches of foreign records; ``rows_of`` are the groups' rows,
    ``block`` how many coordinates the index's sketches mix, ``rate`` how many a bit tells,
    ``twice`` how many have two signs.

    Memory: about 40 bytes for each pair of a record and a foreign record. Raises ValueError for
    fewer than FEWEST foreign records.
    """
    if len(queries) < FEWEST:
        raise ValueError(f"A null needs {FEWEST} foreign records, there are {len(queries)}.")
    found = np.array(
        [
            per_record(
                scores.record_scores(codes, norms, weights, query, block, rate, twice),
                query,
                len(weights),
            )
            for query in queries
        ]
    )
    return fit_to(found, rows_of, foreign_sha256)


def fit_to(
    found: Whole,
    rows_of: Sequence[slice],
    foreign_sha256: str,
    level: int = LEVEL,
    top: int = TOP,
    directions: int = DIRECTIONS,
) -> Null:
    """The same from what foreign records get of each record by its length (foreign, records)."""
    count = len(found)
    # Each foreign record against a null without itself; else the threshold would be too low.
    tops = np.empty((count, len(rows_of)), dtype=np.int64)
    for fold in range(FOLDS):
        mine = np.arange(count) % FOLDS == fold
        others = _of_records(found[~mine], directions)
        for row in np.flatnonzero(mine):
            tops[row] = _tops(_above(found[row], others), rows_of, top)
    largest = sorted(
        int(_z(tops[row], moments).max()) for row, moments in enumerate(_moments_without_each(tops))
    )
    allowed = level * (count + 1) // 1_000_000
    return Null(
        _of_records(found, directions),
        _moments(tops),
        largest[-1 - allowed],
        count,
        foreign_sha256,
        max(level, -(-1_000_000 // (count + 1))),
        top,
        VERSION,
    )


def judge(
    null: Null, found: Whole, query: Query, sketch_width: int, rows_of: Mapping[str, slice]
) -> Confidence:
    """``found`` are the answer's record scores, in the order of the rows."""
    u = per_record(found, query, sketch_width)
    reached = heights(null, u, list(rows_of.values()))
    return Confidence(
        clear=bool(reached.max(initial=-(2**62)) > null.threshold),
        threshold=null.threshold,
        scores=dict(zip(rows_of, reached.tolist(), strict=True)),
        apart=_apart(u, rows_of),
        level=null.level,
        version=null.version,
    )


def heights(null: Null, u: Whole, rows_of: Sequence[slice]) -> Whole:
    """How far each group is above its null, in thousandths of a deviation."""
    return _z(_tops(_above(u, null.records), rows_of, null.top), null.groups)


def rows_by_group(counts: Mapping[str, int]) -> dict[str, slice]:
    """Rows of each group, where records stand by group in the order of ``counts``."""
    found, begin = {}, 0
    for name, count in counts.items():
        found[name] = slice(begin, begin + count)
        begin += count
    return found


def per_record(found: Whole, query: Query, sketch_width: int) -> Whole:
    """Scores without the answer's own length, so that a loud answer is not a clear one."""
    codes = query.codes[:sketch_width].astype(np.int64)
    length = max(1, math.isqrt(int(codes @ codes)))
    divided: Whole = found // length
    return divided


def _of_records(found: Whole, count: int) -> Whole:
    """Each record's part of the null from what foreign records get of it, (foreign, records)."""
    moments = _moments(found)
    z = _cut(_z(found, moments))
    directions = _directions(z, min(count, z.shape[1] // EACH))
    if not len(directions):
        return moments
    left = np.array([_left(row, directions) for row in z])
    deviations = np.maximum(np.rint(left.std(axis=0)), 1).astype(np.int64)
    return np.ascontiguousarray(np.column_stack([moments, deviations, directions.T]))


def _directions(z: Whole, count: int) -> Whole:
    """The directions in which rows of ``z`` are largest, (count, records), in units of SCALE.

    By the products of the rows, which are few, whatever the number of records.
    """
    if not count:
        return np.empty((0, z.shape[1]), dtype=np.int64)
    values = z.astype(np.float64)
    _, mixes = np.linalg.eigh(values @ values.T)
    found = mixes[:, ::-1][:, :count].T @ values
    # A direction and its opposite are the same; the largest part is positive.
    turned = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    scaled = np.rint(found * (np.sign(turned) * SCALE / np.maximum(lengths, 1)))
    whole: Whole = scaled.astype(np.int64)
    return whole


def _above(u: Whole, records: Whole) -> Whole:
    """How far each record is above its null, in thousandths."""
    z = _z(u, records[:, :2])
    if records.shape[1] == 2:
        return z
    found: Whole = _left(_cut(z), records[:, 3:].T) * UNIT // records[:, 2]
    return found


def _left(z: Whole, directions: Whole) -> Whole:
    """``z`` (records,) without its part along each direction, rounded down."""
    parts = directions @ z // SCALE
    left: Whole = z - parts @ directions // SCALE
    return left


def _cut(z: Whole) -> Whole:
    return np.clip(z, -FURTHEST, FURTHEST)


def _moments(values: Whole) -> Whole:
    """Mean and deviation of each column, (columns, 2), whole numbers, a deviation 1 at least."""
    means = np.rint(values.mean(axis=0))
    deviations = np.maximum(np.rint(values.std(axis=0)), 1)
    return np.stack([means, deviations], axis=1).astype(np.int64)


def _moments_without_each(values: Whole) -> list[Whole]:
    """The same without each row in turn."""
    count = len(values)
    shifted = values - values.mean(axis=0)
    totals, squares = shifted.sum(axis=0), np.square(shifted).sum(axis=0)
    found = []
    for row in shifted:
        mean = (totals - row) / (count - 1)
        variance = np.maximum((squares - row**2) / (count - 1) - mean**2, 0)
        means = np.rint(mean + values.mean(axis=0))
        deviations = np.maximum(np.rint(np.sqrt(variance)), 1)
        found.append(np.stack([means, deviations], axis=1).astype(np.int64))
    return found


def _z(values: Whole, moments: Whole) -> Whole:
    divided: Whole = (values - moments[:, 0]) * UNIT // moments[:, 1]
    return divided


def _tops(z: Whole, rows_of: Sequence[slice], top: int) -> Whole:
    found = []
    for rows in rows_of:
        mine = z[rows]
        kept = min(top, len(mine))
        found.append(int(np.partition(mine, len(mine) - kept)[len(mine) - kept :].sum()) // kept)
    return np.array(found, dtype=np.int64)


def _apart(u: Whole, rows_of: Mapping[str, slice]) -> dict[str, int]:
    """How far each group's sum is above its mean under permuted labels, by the exact moments of
    drawing without replacement; Python integers, since squares leave 64 bits."""
    count = len(u)
    if len(rows_of) < 2:
        return {}
    total = sum(values := u.tolist())
    spread = count * sum(value * value for value in values) - total * total  # N^2 times variance
    found = {}
    for name, rows in rows_of.items():
        mine = values[rows]
        n = len(mine)
        above = count * sum(mine) - n * total  # N times the distance from the mean
        # Variance of a sum of n of N: n (N - n) / (N - 1) times the variance.
        squared = n * (count - n) * spread // (count - 1)
        found[name] = above * UNIT // max(1, math.isqrt(squared))
    return found
