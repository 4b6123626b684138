"""A record's print: MinHash bands by which near-duplicates find each other without comparing all.

Two kinds, each of which misses what the other sees. Runs of SHINGLE letters without white space: a
typing error breaks few of them, a changed order many. Pairs of words at most two apart, whichever
comes first: neighbours that change places keep most of them. Bands of four values for runs, where
two records whose sets overlap by 0.7 (Jaccard) meet with 99 % and by 0.3 with 12 %; of three for
pairs, which other texts hardly share: 98 % by 0.6. The verdict on a pair is `similar.near`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rensa
from numpy.typing import NDArray

from attribution.translog import canonical
from datanets.ingest.folding import Folded

# Raise it with every change of folding, prints or verdicts: records that were compared by an older
# one are compared again. 0 stands for what is to be made again whatever the version.
VERSION = 3

SHINGLE = 5
RUN_BANDS, RUN_ROWS = 16, 4
PAIR_BANDS, PAIR_ROWS = 16, 3
BANDS = RUN_BANDS + PAIR_BANDS
SEED = 20261126


@dataclass(frozen=True, slots=True)
class Print:
    """`bands`: signed 64-bit values, as a database holds them; `letters`: SHA-256 of what is
    compared, equal where nothing but looks differs."""

    bands: tuple[int, ...]
    letters: str


def cluster_hash(record: str, content_hash: str) -> str:
    """The name of a cluster: hex SHA-256 of its origin's id and content hash as canonical JSON."""
    return canonical.sha256({"content_hash": content_hash, "record": record})


def prints(records: Sequence[Folded]) -> list[Print]:
    """The prints of many records at once."""
    if not records:
        return []
    runs = _minhashes([_runs(one.letters) for one in records], RUN_BANDS, RUN_ROWS)
    pairs = _minhashes([_pairs(one.words) for one in records], PAIR_BANDS, PAIR_ROWS)
    bands = np.concatenate([_bands(runs, 0), _bands(pairs, RUN_BANDS)], axis=1)
    signed = bands.view(np.int64)
    return [
        Print(tuple(line.tolist()), hashlib.sha256(one.letters.encode()).hexdigest())
        for one, line in zip(records, signed, strict=True)
    ]


def _minhashes(sets: Sequence[Sequence[str]], bands: int, rows: int) -> NDArray[np.uint64]:
    """(records, bands, rows)"""
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(sets, bands * rows, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(sets), bands, rows)


def _bands(values: NDArray[np.uint64], first: int) -> NDArray[np.uint64]:
    """(records, bands): one number for each band, which begins with its place, counted from
    `first`, so that it meets none of another place."""
    records, bands, rows = values.shape
    found = np.tile(np.arange(first, first + bands, dtype=np.uint64), (records, 1))
    for row in range(rows):
        found ^= values[:, :, row]
        found *= np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


def _runs(letters: str) -> list[str]:
    if len(letters) <= SHINGLE:
        return [letters or " "]
    return [letters[at : at + SHINGLE] for at in range(len(letters) - SHINGLE + 1)]


def _pairs(words: Sequence[str]) -> list[str]:
    near = [*itertools.pairwise(words), *zip(words, words[2:], strict=False)]
    return ["\0".join(sorted(pair)) for pair in near] or [*words, " "][:1]
