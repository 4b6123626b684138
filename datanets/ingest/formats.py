"""The formats that are read, told from a file's name. Imports no reader: the web asks this too."""

from enum import StrEnum
from pathlib import Path

from datanets.ingest.faults import FileFault


class Format(StrEnum):
    """The formats that are read."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


ENDINGS = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSON,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".parquet": Format.PARQUET,
}


def accepted_endings() -> str:
    """The endings for a file input's accept attribute and for sentences."""
    return ", ".join(ENDINGS)


def require_ending(name: str) -> Format:
    """The format that a name promises. Raises FileFault FORMAT."""
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise FileFault(
            "FORMAT",
            f"“{name}” has the ending “{ending or 'none'}”. Upload a file that ends in "
            f"{accepted_endings()}.",
        )
    return ENDINGS[ending]
