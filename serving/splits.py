"""A split as it is kept with a completion, so that it is captured as it was held."""

from __future__ import annotations

from typing import Any

from ledger.splits import Part, Split


def to_json(split: Split) -> dict[str, Any]:
    parts = [{"kind": part.kind, "basis_points": part.basis_points} for part in split.parts]
    return {"version": split.version, "parts": parts}


def from_json(value: dict[str, Any]) -> Split:
    return Split(
        version=value["version"],
        parts=tuple(Part(part["kind"], part["basis_points"]) for part in value["parts"]),
    )
