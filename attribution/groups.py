"""Who is paid for a record: one string of contributor, Datanet and version."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from uuid import UUID


class Group(NamedTuple):
    contributor: UUID
    datanet: UUID
    version: UUID

    def __str__(self) -> str:
        return f"{self.contributor}|{self.datanet}|{self.version}"


# A model's groups stand in each of its receipts.
@lru_cache(maxsize=65_536)
def parse(text: str) -> Group:
    """Raises ValueError where `text` is no group."""
    parts = text.split("|")
    if len(parts) != 3:
        raise ValueError(f"{text!r} is no group of contributor, Datanet and version.")
    return Group(*(UUID(part) for part in parts))
