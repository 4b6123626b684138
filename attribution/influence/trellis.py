"""A sketch's bits tell more coordinates than there are bits: a convolutional code, used backwards.

Where a bit is a coordinate's sign, ``n`` bits tell ``n`` coordinates and nothing of the others.
Here a bit shifts through a register of nine, and each of ``rate`` parities of the register is the
sign of one coordinate. Of all the sign patterns that bits can make so, the one with the largest
dot product with the record is found by the Viterbi algorithm (Viterbi 1967; as a quantiser:
Marcellin and Fischer 1990). With two coordinates a bit, signs then carry 0.47 of a Gaussian
vector's energy, where signs of half of its coordinates carry 0.32; no code of that size can carry
more than 0.50.

Reading stays what it was, the dot product of signs with an answer: the signs are parities of
shifted bits (``spread``). Everything after the rounding of ``choose`` is integer arithmetic with a
stated order of ties, so anyone finds the same bits.

Bits come in segments of 1,024, each from an empty register. Parity ``i`` gives the signs of the
``i``-th part of the coordinates, so that a strong coordinate shares its bit with a weak one.

Where there are more signs than coordinates worth one, the strongest have two: both parities of a
step, which then say -2, 0 or 2 of the coordinate (a trellis of one bit a coordinate: 0.72 of a
Gaussian's energy in place of a sign's 0.64). How much two signs that agree overshoot is a cost in
the search.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MEMORY = 9  # bits in the register, the newest first in a generator
SEGMENT = 1024
# Of each parity the bits of the register that it adds: the codes of largest distance at this
# length (Larsen 1973). One coordinate a bit is the bit itself.
GENERATORS = {1: (0o400,), 2: (0o561, 0o753), 3: (0o557, 0o663, 0o711)}
HALF = 1 << (MEMORY - 2)  # states come in pairs, which two states of the step before lead to
METRIC_MAX = 2**15 - 1  # times 3 coordinates and 1,024 steps stays far below 2**30
UNREACHED = -(2**30)
ROWS = 64  # segments that the portable loop takes at a time: it keeps 128 KB for each

COST_MAX = 2 * METRIC_MAX


class Choose(Protocol):
    def __call__(
        self, metrics: NDArray[np.int32], costs: NDArray[np.int32] | None = None
    ) -> NDArray[np.uint8]: ...


def delays(generator: int) -> list[int]:
    """How many steps ago the bits came in that a parity adds."""
    return [ago for ago in range(MEMORY) if generator >> (MEMORY - 1 - ago) & 1]


def code_bytes(width: int, rate: int) -> int:
    """Bytes of a sketch of ``width`` coordinates."""
    return -(-width // (8 * rate))


def rate_of(coordinates: int, sketch_width: int, sketch_rate: int) -> int:
    """Coordinates that a bit tells. Where the bytes suffice for a bit each, that is better."""
    return sketch_rate if coordinates * sketch_rate > sketch_width else 1


def twice_of(coordinates: int, sketch_width: int, rate: int) -> int:
    """How many of a sketch's coordinates, the strongest, have two of its ``sketch_width`` signs."""
    return max(0, min(coordinates, sketch_width - coordinates)) if rate == 2 else 0


@cache
def places(width: int, rate: int, twice: int = 0) -> NDArray[np.int64]:
    """Which coordinate each sign is of, (rate, steps); -1 for those that fill the last byte.

    The first ``twice`` have both signs of a step, and these steps stand evenly among the others.
    """
    steps = 8 * code_bytes(width + twice, rate)
    if not twice:
        found = np.arange(rate * steps).reshape(rate, steps)
        return np.where(found < width, found, -1)
    found = np.full((rate, steps), -1)
    both = np.arange(twice) * steps // twice
    found[:, both] = np.arange(twice)
    ones = np.setdiff1d(np.arange(steps), both)
    rest = np.arange(twice, width)
    for part in range(rate):
        mine = rest[part * len(ones) : (part + 1) * len(ones)]
        found[part, ones[: len(mine)]] = mine
    return found


def choose(
    vectors: NDArray[Any],
    rate: int,
    native: Choose | None = None,
    costs: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """The bits whose signs have the largest dot product with each row.

    Shapes: vectors (records, width), weighted -> (records, code_bytes). A sign is positive where
    its parity is 1. Rows are rounded to 16 bits of their largest coordinate before. ``costs``
    (records, twice) is what is lost where both signs of a coordinate agree, and won where they do
    not. ``native`` does the same as ``paths``, faster.
    """
    if rate == 1:
        return np.packbits(vectors >= 0, axis=1)
    records, width = vectors.shape
    twice = 0 if costs is None else costs.shape[1]
    steps = 8 * code_bytes(width + twice, rate)
    whole = -(-steps // SEGMENT) * SEGMENT
    top = np.maximum(np.abs(vectors).max(axis=1, initial=0), np.finfo(np.float32).tiny)
    scale = (METRIC_MAX / top.astype(np.float64))[:, None]
    metrics = np.zeros((records, width + 1), dtype=np.int32)  # the last for no coordinate
    metrics[:, :width] = np.rint(vectors * scale)
    parts = np.zeros((records, rate, whole), dtype=np.int32)
    parts[:, :, :steps] = metrics[:, places(width, rate, twice)]
    segments = parts.reshape(records, rate, whole // SEGMENT, SEGMENT).transpose(0, 2, 1, 3)
    prices = None
    if costs is not None:
        prices = np.zeros((records, whole), dtype=np.int32)
        both = np.arange(twice) * steps // twice
        prices[:, both] = np.rint(np.minimum(costs * scale, COST_MAX))
        prices = prices.reshape(-1, SEGMENT)
    found = (native or paths)(np.ascontiguousarray(segments.reshape(-1, rate, SEGMENT)), prices)
    return np.packbits(found.reshape(records, whole)[:, :steps], axis=1)


def values(codes: NDArray[np.uint8], width: int, rate: int, twice: int) -> NDArray[np.int8]:
    """What the signs say of each coordinate, added up: (records, bytes) -> (records, width)."""
    signs = np.unpackbits(spread(codes, rate), axis=1).reshape(len(codes), rate, -1)
    found = np.zeros((len(codes), width + 1), dtype=np.int8)
    for part, mine in enumerate(places(width, rate, twice)):
        found[:, mine] += signs[:, part].astype(np.int8) * 2 - 1  # of a part each has one at most
    return found[:, :width]


def spread(codes: NDArray[np.uint8], rate: int) -> NDArray[np.uint8]:
    """The signs that bits stand for, one bit each: (records, bytes) -> (records, rate * bytes)."""
    if rate == 1:
        return codes
    records, width = codes.shape
    bits = np.unpackbits(codes, axis=1)
    whole = np.pad(bits, ((0, 0), (0, -bits.shape[1] % SEGMENT))).reshape(records, -1, SEGMENT)
    parities = []
    for generator in GENERATORS[rate]:
        parity = np.zeros_like(whole)
        for ago in delays(generator):
            parity[:, :, ago:] ^= whole[:, :, : SEGMENT - ago]
        parities.append(np.packbits(parity.reshape(records, -1)[:, : 8 * width], axis=1))
    return np.concatenate(parities, axis=1)


def state_signs(rate: int) -> NDArray[np.int32]:
    """(rate, HALF): the sign of each parity where a 0 comes into the register whose other bits are
    twice the place. With a 1 for the newest or for the oldest bit all signs are the opposite, since
    every generator adds both."""
    pairs = [2 * place for place in range(HALF)]
    signs = [[2 * ((g & s).bit_count() & 1) - 1 for s in pairs] for g in GENERATORS[rate]]
    return np.array(signs, dtype=np.int32)


def paths(metrics: NDArray[np.int32], costs: NDArray[np.int32] | None = None) -> NDArray[np.uint8]:
    """Viterbi's algorithm for many segments at once: (segments, rate, SEGMENT) -> bits.

    ``costs`` (segments, SEGMENT), times the first two signs of a step, are taken off. Of two equal
    paths the one that had a 0 is kept, of equal ends the first.
    """
    signs = state_signs(metrics.shape[1])
    costs = np.zeros_like(metrics[:, 0]) if costs is None else costs
    out = np.zeros((metrics.shape[0], SEGMENT), dtype=np.uint8)
    for begin in range(0, len(metrics), ROWS):
        out[begin : begin + ROWS] = _paths(
            metrics[begin : begin + ROWS], costs[begin : begin + ROWS], signs
        )
    return out


def _paths(
    metrics: NDArray[np.int32], costs: NDArray[np.int32], signs: NDArray[np.int32]
) -> NDArray[np.uint8]:
    count = len(metrics)
    alike = signs[0] * signs[1]
    reached = np.full((count, 2 * HALF), UNREACHED, dtype=np.int32)
    reached[:, 0] = 0
    taken = np.empty((SEGMENT, count, 2 * HALF), dtype=np.bool_)
    for step in range(SEGMENT):
        gain = metrics[:, :, step] @ signs  # (segments, HALF)
        cost = costs[:, step, None] * alike
        even, odd = reached[:, ::2], reached[:, 1::2]
        for bit, first, second in ((0, even + gain, odd - gain), (1, even - gain, odd + gain)):
            half = slice(bit * HALF, (bit + 1) * HALF)
            taken[step, :, half] = second > first
            reached[:, half] = np.maximum(first, second) - cost
    state = reached.argmax(axis=1)
    bits = np.empty((count, SEGMENT), dtype=np.uint8)
    rows = np.arange(count)
    for step in range(SEGMENT - 1, -1, -1):
        bits[:, step] = state >= HALF
        state = (state << 1 | taken[step, rows, state]) & (2 * HALF - 1)
    return bits
