"""Anyone can recompute: from published integers to the same influences and shares. No torch.

What is needed is the index folder and the answer's sketch from the receipt's private part; what
comes out must equal the receipt to the last unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attribution.influence.confidence import Confidence
from attribution.influence.index import Index
from attribution.influence.quantise import Query
from attribution.influence.shares import shares


@dataclass(frozen=True, slots=True)
class Recomputed:
    groups: dict[str, int]
    shares: dict[str, int]
    records: dict[str, int]
    confidence: Confidence | None


def recompute(index: Index, sketch: bytes, *, bits: int) -> Recomputed:
    """Influences and shares from the index's integers and the bytes of an answer's sketch.

    Nobody has a share where no influence is clear.
    Raises ValueError where the sketch does not fit the index.
    """
    scores = index.score(Query.from_bytes(sketch, step=1.0, bits=bits))
    is_clear = scores.confidence is None or scores.confidence.clear
    found = shares(scores.groups) if is_clear else {}
    return Recomputed(scores.groups, found, dict(scores.records), scores.confidence)


def differences(claimed: Mapping[str, int], found: Mapping[str, int], what: str) -> list[str]:
    """One sentence for each id whose claimed number is not the recomputed one."""
    return [
        f"{what} of {name}: {claimed.get(name, 0)} is claimed, {found.get(name, 0)} is computed."
        for name in sorted({*claimed, *found})
        if claimed.get(name, 0) != found.get(name, 0)
    ]
