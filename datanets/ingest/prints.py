"""A record's print: MinHash bands by which near-duplicates find each other without comparing all.

Letters without white space in runs of SHINGLE, since swapped words and typing errors break few of
them. BANDS bands of ROWS values each: two records whose sets of runs overlap by 0.65 (Jaccard) meet
in some band with 98 %, by 0.3 with 15 %. The verdict on a pair is `similar.is_near`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rensa

from attribution.translog import canonical
from datanets.ingest.folding import Folded

SHINGLE = 5
BANDS, ROWS = 20, 4
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
    sets = [_shingles(one.letters) for one in records]
    rows = rensa.RMinHash.digest_matrix_from_token_sets(sets, BANDS * ROWS, SEED).to_rows()
    values = np.array(rows, dtype=np.uint64).reshape(len(records), BANDS, ROWS)
    bands = np.zeros((len(records), BANDS), dtype=np.uint64)
    for row in range(ROWS):
        bands = (bands ^ values[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        bands ^= bands >> np.uint64(29)
    # Bands must not meet those of other places.
    bands = bands * np.uint64(BANDS) + np.arange(BANDS, dtype=np.uint64)
    signed = bands.view(np.int64)
    return [
        Print(tuple(line.tolist()), hashlib.sha256(one.letters.encode()).hexdigest())
        for one, line in zip(records, signed, strict=True)
    ]


def _shingles(letters: str) -> list[str]:
    if len(letters) <= SHINGLE:
        return [letters or " "]
    return [letters[at : at + SHINGLE] for at in range(len(letters) - SHINGLE + 1)]
