"""Scores of an answer: exact integer dot products, the same on every machine.

Group scores cost O(groups x width), whatever the number of records. Record scores cost one table
look-up for each byte of a sketch. Nothing here rounds and nothing overflows: sums are cut into
limbs whose products provably fit 64 bits, and put together as Python integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attribution.influence import native, trellis
from attribution.influence.quantise import Query
from attribution.influence.reading import blocks
from attribution.influence.rotation import turn

LIMB = 20  # bits; int16 query x 20 bits x up to 2**28 coordinates stays below 2**63
NATIVE_FROM = 64  # sketches; for fewer no compiler is started
ROWS = 512  # sketches scored at a time, and
COLUMNS = 128  # their bytes: what both need of the table stays in a core's own cache


def group_scores(sums: NDArray[np.int64], query: Query) -> list[int]:
    """Exact dot products of the rows of ``sums`` (groups, width) with the query (width,)."""
    codes = query.codes.astype(np.int64)
    rows = max(1, 2**24 // max(1, sums.shape[1]))
    found: list[int] = []
    for begin in range(0, sums.shape[0], rows):
        found.extend(_dot(np.asarray(sums[begin : begin + rows]), codes))
    return found


def _dot(block: NDArray[np.int64], codes: NDArray[np.int64]) -> list[int]:
    totals = [0] * block.shape[0]
    rest, shift = block, 0
    while int(rest.max(initial=0)) >= 2**LIMB or int(rest.min(initial=0)) < -(2**LIMB):
        low = (rest & (2**LIMB - 1)) @ codes
        totals = [total + (int(part) << shift) for total, part in zip(totals, low, strict=True)]
        rest, shift = rest >> LIMB, shift + LIMB
    high = rest @ codes
    return [total + (int(part) << shift) for total, part in zip(totals, high, strict=True)]


def record_scores(
    codes: NDArray[np.uint8],
    norms: NDArray[np.uint16],
    weights: NDArray[np.uint8],
    query: Query,
    block: int = 1,
    rate: int = 1,
    twice: int = 0,
) -> NDArray[np.int64]:
    """Scores of all sketches: ``norm * sum(±query * weight)``, the query turned as they were, and
    a bit telling ``rate`` signs, of which the first ``twice`` coordinates have two.

    Shapes: codes (records, bytes), norms (records,), weights (sketch width,) -> (records,).
    Turned in blocks of B, a query of b at most has B coordinates that add up to B * sqrt(B) * b at
    most in size. Bound: 65,535 x 32,767 x sqrt(256) x 255 x signs < 2**63 up to 10**6 signs.
    """
    products = _products(weights, query, codes.shape[1] * rate, block)
    if twice:
        products = np.append(products[: len(weights)], np.int32(0))
        products = products[trellis.places(len(weights), rate, twice)].reshape(-1)
    found = native.reader(products, rate) if codes.shape[0] >= NATIVE_FROM else None
    signed = np.empty(len(codes), dtype=np.int64)
    for begin, rows in blocks(codes):
        signed[begin : begin + len(rows)] = (
            found(rows) if found else portable_scores(rows, products, rate)
        )
    return signed * norms.astype(np.int64)


def portable_scores(
    codes: NDArray[np.uint8], products: NDArray[np.int32], rate: int = 1
) -> NDArray[np.int64]:
    """Sums of signed products, (records,): what the native kernel does, by numpy alone."""
    width = codes.shape[1] * rate
    table = _byte_table(products)
    offsets = np.arange(COLUMNS, dtype=np.intp) * 256
    scores = np.zeros(codes.shape[0], dtype=np.int64)
    for begin in range(0, codes.shape[0], ROWS):
        rows = trellis.spread(np.asarray(codes[begin : begin + ROWS]), rate)
        total = scores[begin : begin + ROWS]
        for first in range(0, width, COLUMNS):
            places = rows[:, first : first + COLUMNS].astype(np.intp)
            places += offsets[: places.shape[1]]
            part = table[first * 256 : (first + COLUMNS) * 256]
            total += part.take(places).sum(axis=1, dtype=np.int64)
    return scores


def _products(
    weights: NDArray[np.uint8], query: Query, width_bytes: int, block: int
) -> NDArray[np.int32]:
    """Query times weight for each bit of a sketch, zero for those that fill its last byte.

    At most 32,767 x 256 x 255 in size, which is less than 2**31.
    """
    products = np.zeros(width_bytes * 8, dtype=np.int32)
    width = weights.shape[0]
    products[:width] = turn(query.codes[:width].astype(np.int32), block) * weights
    return products


def _byte_table(products: NDArray[np.int32]) -> NDArray[np.int64]:
    """For each byte of a sketch and each of its 256 values, what it adds to the score.

    At most 8 x 2**31, so floating point does it exactly, and faster.
    """
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    signs = bits.astype(np.float64) * 2 - 1  # (256, 8)
    whole = products.reshape(-1, 8).astype(np.float64) @ signs.T
    table: NDArray[np.int64] = whole.astype(np.int64).reshape(-1)
    return table
