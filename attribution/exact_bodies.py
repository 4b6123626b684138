"""What the log is told of an exact audit: both shares of every group, and how far apart they are.

Arithmetic alone: whoever has the two sets of whole numbers comes to the same body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from attribution.influence.shares import shares
from attribution.models import ExactAudit, Receipt
from attribution.translog.audited import MERGED_SCHEMA, SCHEMA, correlation_ppm
from attribution.translog.money import difference, readings

METHOD = {"method": "magic-replay", "version": 2}


@dataclass(frozen=True, slots=True)
class Found:
    """Exact influence of each group in whole numbers of one unit; of how many records it is the
    sum, and how many of the runs' belong to no group any more."""

    influences: Mapping[str, int]
    records: int
    left_out: int
    steps: int


@dataclass(frozen=True, slots=True)
class NotReplayed:
    """One of several models whose training could not be run once more, and why."""

    reason: str


def public_part(
    *, row: ExactAudit, receipt: Receipt, found: Sequence[Found | NotReplayed], at: datetime
) -> dict[str, Any]:
    """What is hashed into the log and shown to everyone; ``found`` of the model, or of each of
    several in the receipt's order, which are read as if each had answered alone."""
    then = readings(receipt.public)
    parts = [_part(before, one) for before, one in zip(then, found, strict=True)]
    told = {
        "schema": SCHEMA,
        "id": str(row.pk),
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "receipt": {"id": str(receipt.pk), "sha256": receipt.body_sha256},
        "asked_as": row.asked_as,
        "model": receipt.public["model"],
        "method": METHOD,
        "moves_money": False,
    }
    if "merge" not in receipt.public:
        return told | parts[0]
    parents = [
        {"model": before["model"], "share_ppb": before["share_ppb"], **part}
        for before, part in zip(then, parts, strict=True)
    ]
    return told | {"schema": MERGED_SCHEMA, "merge": {"parents": parents}}


def largest_difference(public: Mapping[str, Any]) -> int:
    """In parts of 10**9 of what the model earns by the answer; of several models the largest."""
    return max(one.get("largest_difference_ppb", 0) for one in readings(public))


def _part(then: Mapping[str, Any], found: Found | NotReplayed) -> dict[str, Any]:
    if isinstance(found, NotReplayed):
        return {"not_replayed": found.reason}
    stated = {name: int(value) for name, value in then["influence"]["groups"].items()}
    names = sorted({*stated, *found.influences})
    # Where influence was not clear nobody was paid by it; the shares that it would give remain.
    by_index = then["shares"] or shares(stated)
    exact = shares(found.influences)
    moved = difference(by_index, exact)
    return {
        "steps": found.steps,
        "records": found.records,
        "records_left_out": found.left_out,
        "influence": {name: str(found.influences.get(name, 0)) for name in names},
        "was_paid": bool(then["shares"]),
        "index_shares": dict(by_index),
        "exact_shares": exact,
        "difference": moved,
        "correlation_ppm": correlation_ppm(
            [stated.get(name, 0) for name in names],
            [found.influences.get(name, 0) for name in names],
        ),
        "largest_difference_ppb": max((abs(part) for part in moved.values()), default=0),
        "elsewhere_ppb": sum(part for part in moved.values() if part > 0),
    }
