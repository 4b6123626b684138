"""Who gets which part of the contributors' money, from integer influences alone."""

from __future__ import annotations

from collections.abc import Mapping

WHOLE = 10**9


def shares(groups: Mapping[str, int]) -> dict[str, int]:
    """Parts of 10**9 for the groups that helped, by largest remainder, ties by id.

    Only positive influence earns; a group that did not help is not in the result. The parts add
    up to exactly 10**9, or there are none where nobody helped.
    """
    return portion({name: value for name, value in groups.items() if value > 0})


def portion(weights: Mapping[str, int]) -> dict[str, int]:
    """10**9 in proportion to whole weights of 0 or more; nothing where they add up to nothing.

    Raises ValueError for a negative weight.
    """
    if any(weight < 0 for weight in weights.values()):
        raise ValueError("A weight is a whole number of 0 or more.")
    total = sum(weights.values())
    if total == 0:
        return {}
    parts = {name: WHOLE * weight // total for name, weight in weights.items()}
    left = WHOLE - sum(parts.values())
    by_loss = sorted(weights, key=lambda name: (-(WHOLE * weights[name] % total), name))
    for name in by_loss[:left]:
        parts[name] += 1
    return parts
