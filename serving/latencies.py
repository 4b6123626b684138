"""How long answers let people wait, as cumulative histograms of one process."""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import Any

# Upper edges in seconds; what is longer falls into the last, endless bucket.
EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """Thread-safe."""

    def __init__(self) -> None:
        self._counts = [0] * (len(EDGES) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        with self._lock:
            self._counts[bisect_left(EDGES, seconds)] += 1
            self._sum += seconds

    def to_json(self) -> dict[str, Any]:
        with self._lock:
            return {"counts": list(self._counts), "sum": round(self._sum, 6)}


def cumulative(kept: dict[str, Any]) -> list[tuple[str, float]]:
    """(upper edge, how many took at most that) for each bucket, as Prometheus wants it."""
    found, total = [], 0
    for edge, count in zip([*map(str, EDGES), "+Inf"], kept["counts"], strict=True):
        total += count
        found.append((edge, float(total)))
    return found


def quantile(kept: dict[str, Any], part: float) -> float | None:
    """The upper edge of the bucket that holds this part of the answers, in seconds; None: none."""
    total = sum(kept["counts"])
    if not total:
        return None
    for edge, below in cumulative(kept):
        if below >= part * total:
            return float(edge)
    return None
