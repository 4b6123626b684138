"""Baselines for the starter's perplexity: unigrams, and 5-grams with modified Kneser-Ney.

Interpolated modified Kneser-Ney smoothing as in Chen and Goodman (1999): three discounts an
order from the counts of counts, lower orders over continuation counts, below the unigrams the
uniform distribution. A gram of up to five tokens of a vocabulary of 4,096 fits into 60 bits, so
counting is sorting of integers, exact and without a table in Python.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 12
ORDER = 5
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Grams of one length, sorted by code; contexts are the grams without their last token."""

    grams: Codes
    counts: Codes
    contexts: Codes
    totals: Codes  # count of each context
    spread: NDArray[np.float64]  # discounted mass of each context
    discounts: NDArray[np.float64]  # for counts of 1, 2, and 3 or more


class KneserNey:
    def __init__(self, stream: NDArray[np.uint16], vocabulary: int) -> None:
        if vocabulary > 1 << BITS:
            raise ValueError(f"The vocabulary must not exceed {1 << BITS} tokens.")
        self.vocabulary = vocabulary
        grams, counts = np.unique(codes(stream, ORDER), return_counts=True)
        self.orders = [order_of(grams, counts)]
        for length in range(ORDER - 1, 0, -1):
            # Each longer gram counts once: what continues many contexts is likely anywhere.
            suffixes = grams & ((1 << (BITS * length)) - 1)
            grams, counts = np.unique(suffixes, return_counts=True)
            self.orders.append(order_of(grams, counts))

    def probabilities(self, stream: NDArray[np.uint16]) -> NDArray[np.float64]:
        """P(token | up to four tokens before it) for every token from the fifth on."""
        found = np.full(len(stream) - ORDER + 1, 1 / self.vocabulary)
        whole = codes(stream, ORDER)
        for order, length in zip(reversed(self.orders), range(1, ORDER + 1), strict=True):
            found = interpolate(order, whole & ((1 << (BITS * length)) - 1), found)
        return found

    def is_known(self, stream: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """Whether the four tokens before a token stand anywhere in the training stream."""
        return find(self.orders[0].contexts, codes(stream, ORDER) >> BITS)[1]


def codes(stream: NDArray[np.uint16], length: int) -> Codes:
    """Every gram of the stream as one integer, first token in the highest bits."""
    made = np.zeros(len(stream) - length + 1, dtype=np.int64)
    for place in range(length):
        made = (made << BITS) | stream[place : place + len(made)].astype(np.int64)
    return made


def order_of(grams: Codes, counts: Codes) -> Order:
    of_counts = [int((counts == n).sum()) for n in range(1, 5)]
    n1, n2, n3, n4 = (max(1, n) for n in of_counts)
    y = n1 / (n1 + 2 * n2)
    discounts = np.clip([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3], 0.01, 2.99)
    contexts, starts = np.unique(grams >> BITS, return_index=True)
    cut = discounts[np.minimum(counts, 3) - 1]
    return Order(
        grams=grams,
        counts=counts.astype(np.int64),
        contexts=contexts,
        totals=np.add.reduceat(counts, starts),
        spread=np.add.reduceat(cut, starts),
        discounts=discounts,
    )


def interpolate(order: Order, wanted: Codes, lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """One order's estimate over the lower one's; an unseen context leaves the lower as it is."""
    at, known = find(order.contexts, wanted >> BITS)
    totals = np.where(known, order.totals[at], 1)
    spread = np.where(known, order.spread[at], 1.0)
    place, seen = find(order.grams, wanted)
    counts = np.where(seen, order.counts[place], 0)
    cut = np.where(counts > 0, order.discounts[np.clip(counts, 1, 3) - 1], 0.0)
    return (counts - cut) * known / totals + spread / totals * lower


def find(table: Codes, wanted: Codes) -> tuple[Codes, NDArray[np.bool_]]:
    at = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return at, table[at] == wanted


def unigram_probabilities(
    stream: NDArray[np.uint16], held_out: NDArray[np.uint16], vocabulary: int
) -> NDArray[np.float64]:
    """P(token) of every held-out token, one added to every count."""
    counts = np.bincount(stream, minlength=vocabulary) + 1
    return np.asarray((counts / counts.sum())[held_out])
