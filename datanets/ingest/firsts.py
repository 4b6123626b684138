"""Who is first of records that say nearly the same: stars, in the order of commits.

A record joins the earliest origin that it is near to itself, or becomes an origin. It never joins
through a third, so that nobody can build a bridge from a record of theirs to somebody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

NEVER = datetime.max.replace(tzinfo=UTC)
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Standing(Generic[Key]):
    """A record that may be an origin, as far as the order of origins depends on it."""

    pk: Key
    datanet_id: Hashable
    submitted_at: datetime
    published_at: datetime | None  # its Datanet; None while that is not public
    is_accepted: bool = True

    @property
    def order(self) -> tuple[bool, datetime, datetime, Any]:
        """Accepted ones first, each in the order in which they were committed."""
        committed = max(self.submitted_at, self.published_at or NEVER)
        return (not self.is_accepted, committed, self.submitted_at, self.pk)

    def is_open_to(self, other: Standing[Key]) -> bool:
        return self.published_at is not None or self.datanet_id == other.datanet_id


def first_ones(
    records: Iterable[Standing[Key]],
    near: Mapping[Key, Collection[Key]],
    *,
    within_all: bool = False,
) -> dict[Key, Key]:
    """The origin of each record. `near`: both ways, what says nearly the same; `within_all`: also
    over Datanets that are not public, as in a run that learns from all of the records."""
    origin: dict[Key, Key] = {}
    leaders: dict[Key, Standing[Key]] = {}
    for one in sorted(records, key=lambda each: each.order):
        met = [leaders[pk] for pk in near.get(one.pk, ()) if pk in leaders]
        open_to = [each for each in met if within_all or each.is_open_to(one)]
        if open_to:
            origin[one.pk] = min(open_to, key=lambda each: each.order).pk
        else:
            origin[one.pk] = one.pk
            leaders[one.pk] = one
    return origin
