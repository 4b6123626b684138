"""The column selects of a contribution's page, and the first rows as a choice would read them."""

from dataclasses import dataclass
from typing import Any

from datanets.ingest.faults import ValueFault
from datanets.ingest.mapping import OPTIONAL, Mapping, Shape, detect, payload_of
from datanets.ingest.payload import Payload
from datanets.models import Contribution

TEXT_CHARS = 200_000
SHOWN_ROWS = 3
HELP = {
    "system": "What the model is told before the conversation.",
    "input": "Text that the instruction is about.",
    "contributor": "Each name becomes a contributor of its own, without a login; "
    "what they earn waits for them.",
}


@dataclass(frozen=True)
class ColumnField:
    """One select. name: the mapping's field; value: the chosen column."""

    name: str
    value: str
    columns: list[str]
    is_optional: bool
    help: str


@dataclass(frozen=True)
class ReadRow:
    """A row as it will be read: its payload, or why it cannot be."""

    number: int
    payload: Payload | None
    problem: str


def mapping_fields(
    contribution: Contribution, shape: Shape, *, may_name_contributors: bool
) -> list[ColumnField]:
    """Selects of a shape, filled from the choice made before or from what was detected."""
    columns = list(contribution.preview.get("columns", []))
    chosen = contribution.mapping or contribution.preview.get("mapping", {})
    if chosen.get("shape") != shape:
        found = detect(columns)
        chosen = found.as_dict() if found and found.shape == shape else _guess(columns, shape)
    names = [*shape.columns, *(["contributor"] if may_name_contributors else [])]
    return [
        ColumnField(name, chosen.get(name, ""), columns, name in OPTIONAL, HELP.get(name, ""))
        for name in names
    ]


def rows_as_read(
    contribution: Contribution, shape: Shape, fields: list[ColumnField]
) -> list[ReadRow]:
    """The first rows under the shown choice; empty while it is incomplete."""
    try:
        mapping = Mapping.from_dict(
            {"shape": shape, **{field.name: field.value for field in fields}}
        )
    except ValueFault:
        return []
    rows = contribution.preview.get("rows", [])[:SHOWN_ROWS]
    return [_read(row, mapping) for row in rows if row["values"]]


def _read(row: dict[str, Any], mapping: Mapping) -> ReadRow:
    try:
        return ReadRow(row["number"], payload_of(mapping, row["values"], text_chars=TEXT_CHARS), "")
    except ValueFault as fault:
        return ReadRow(row["number"], None, fault.message)


def _guess(columns: list[str], shape: Shape) -> dict[str, str]:
    """Columns that have the very names of the shape's fields."""
    return {name: name for name in shape.columns if name in columns}
