"""How sure a receipt is, as its page tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attribution.models import Receipt, Rescoring

# Deviations above permuted labels from which contributors are told apart, at two in a hundred for
# one of many.
APART = 2.8


@dataclass(frozen=True, slots=True)
class Certainty:
    """Deviations; ``apart`` is None where all records are one contributor's."""

    clear: bool
    highest: float
    threshold: float
    level: float  # per cent
    apart: float | None

    @property
    def is_apart(self) -> bool:
        return self.apart is not None and self.apart >= APART


def certainty_of(receipt: Receipt | Rescoring) -> Certainty | None:
    """None where nothing was known of it: a base model, no answer, or a receipt of before."""
    return certainty_from(receipt.public.get("confidence"))


def certainty_from(stated: Mapping[str, Any] | None) -> Certainty | None:
    """From what a body says of one model."""
    if not stated:
        return None
    return Certainty(
        clear=stated["clear"],
        highest=max(stated["groups"].values()) / 1000,
        threshold=stated["threshold"] / 1000,
        level=stated["level_ppm"] / 10_000,
        apart=max(stated["apart"].values()) / 1000 if stated["apart"] else None,
    )
