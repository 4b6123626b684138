"""Who is paid for a record: one string of contributor, Datanet and version."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID


class Group(NamedTuple):
    contributor: UUID
    datanet: UUID
    version: UUID

    def __str__(self) -> str:
        return f"{self.contributor}|{self.datanet}|{self.version}"


def parse(text: str) -> Group:
    """Raises ValueError where `text` is no group."""
    parts = text.split("|")
    if len(parts) != 3:
        raise ValueError(f"{text!r} is no group of contributor, Datanet and version.")
    return Group(*(UUID(part) for part in parts))
