"""What is merged of adapters for a request, and what such a merge is called. No torch here.

`merging` computes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from attribution.translog import canonical
from serving.engine.types import BadRequest

MOST_PARENTS = 8
HIGHEST_WEIGHT = 10.0


class MergeKind(StrEnum):
    """`cat` adds the parents up exactly; the others keep the parents' rank."""

    LINEAR = "linear"
    TIES = "ties"
    DARE_LINEAR = "dare_linear"
    DARE_TIES = "dare_ties"
    CAT = "cat"

    @property
    def prunes(self) -> bool:
        return self not in (MergeKind.LINEAR, MergeKind.CAT)

    @property
    def is_random(self) -> bool:
        return self in (MergeKind.DARE_LINEAR, MergeKind.DARE_TIES)

    @property
    def elects_signs(self) -> bool:
        return self in (MergeKind.TIES, MergeKind.DARE_TIES)


@dataclass(frozen=True, slots=True)
class Merge:
    """What is merged: (name, weight) of each parent; `density` is the part of their numbers kept.

    The numbers that DARE drops are drawn with `seed`.
    """

    parents: tuple[tuple[str, float], ...]
    kind: MergeKind = MergeKind.LINEAR
    density: float = 1.0
    seed: int = 0

    @property
    def name(self) -> str:
        """Content hash, as an adapter's: the same merge is the same adapter."""
        density = self.density if self.kind.prunes else 1.0
        identity = {
            "merge": self.kind.value,
            "parents": [[name, float(weight).hex()] for name, weight in self.parents],
            "density": float(density).hex(),
            "seed": str(self.seed if self.kind.is_random and density < 1.0 else 0),
        }
        return hashlib.sha256(canonical.dumps(identity)).hexdigest()

    def check(self) -> None:
        """Raises BadRequest where it has no meaning."""
        names = [name for name, _ in self.parents]
        if not 1 <= len(names) <= MOST_PARENTS:
            raise BadRequest(f"Merge 1 to {MOST_PARENTS} adapters, not {len(names)}.")
        if len(set(names)) != len(names):
            raise BadRequest("An adapter is named twice in a merge.")
        if not all(
            math.isfinite(weight) and 0 < abs(weight) <= HIGHEST_WEIGHT
            for _, weight in self.parents
        ):
            raise BadRequest(
                f"A weight of a merge is from -{HIGHEST_WEIGHT:g} to {HIGHEST_WEIGHT:g}, not 0."
            )
        if not 0.0 < self.density <= 1.0:
            raise BadRequest("The density of a merge is above 0 and at most 1.")


def shares(merge: Merge) -> Mapping[str, float]:
    """Each parent's part of what a merge does, by the size of its weight; they sum to 1."""
    total = sum(abs(weight) for _, weight in merge.parents)
    return {name: abs(weight) / total for name, weight in merge.parents}
