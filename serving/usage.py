"""What a person asked and spent: chosen by model, key and days, and grouped as bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import TruncDate

from accounts.models import ApiKey
from serving.models import Completion, Deployment

# The name of a group in an address, and the column or expression behind it.
GROUPINGS = {"model": "deployment__name", "key": "api_key", "day": "day"}
SHOWN = 20
# Asked in the playground, or by a key that is gone.
NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class Filters:
    """`key` is an ApiKey's id, or "none"; days are of UTC, both ends meant too."""

    model: str = ""
    key: str = ""
    since: date | None = None
    until: date | None = None

    @property
    def query(self) -> str:
        return urlencode(self._values())

    def narrowed(self, kind: str, value: str) -> str:
        """The query that chooses one group of what is chosen here."""
        change = {"since": value, "until": value} if kind == "day" else {kind: value}
        return urlencode(self._values() | change)

    def apply(self, found: QuerySet[Completion]) -> QuerySet[Completion]:
        if self.model:
            found = found.filter(deployment__name=self.model)
        if self.key == NO_KEY:
            found = found.filter(api_key=None)
        elif self.key:
            found = found.filter(api_key=UUID(self.key))
        if self.since:
            found = found.filter(created_at__gte=_start(self.since))
        if self.until and self.until < date.max:
            found = found.filter(created_at__lt=_start(self.until + timedelta(days=1)))
        return found

    def _values(self) -> dict[str, str]:
        values = {
            "model": self.model, "key": self.key, "since": self.since, "until": self.until,
        }  # fmt: skip
        return {name: str(value) for name, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class Bar:
    """A group of completions: wei spent, how many, percentage of the largest group."""

    key: str
    name: str
    url: str
    query: str
    amount: int
    count: int
    percent: int


def read_filters(values: Mapping[str, str]) -> Filters:
    """From ?model=, ?key=, ?since= and ?until=; what cannot be read is left out."""
    key = values.get("key", "")
    return Filters(
        model=values.get("model", "")[:200].replace("\0", ""),
        key=key if key == NO_KEY or _is_uuid(key) else "",
        since=_day(values.get("since", "")),
        until=_day(values.get("until", "")),
    )


def groups_of(found: QuerySet[Completion], chosen: Filters) -> dict[str, list[Bar]]:
    return {kind: _bars(found, kind, chosen) for kind in GROUPINGS}


def _bars(found: QuerySet[Completion], kind: str, chosen: Filters) -> list[Bar]:
    """The largest groups first, of days the newest."""
    column = GROUPINGS[kind]
    if kind == "day":
        found = found.annotate(day=TruncDate("created_at"))
    grouped = found.order_by().values(column).annotate(total=Sum("fee"), count=Count("id"))
    rows = list(grouped.order_by("-day" if kind == "day" else "-total", column)[:SHOWN])
    largest = max((row["total"] for row in rows), default=0)
    keys = ApiKey.objects.in_bulk([row[column] for row in rows if kind == "key" and row[column]])
    return [
        Bar(
            key=(key := NO_KEY if row[column] is None else str(row[column])),
            name=_name(kind, row[column], keys),
            url=Deployment(name=key).get_absolute_url() if kind == "model" else "",
            query=chosen.narrowed(kind, key),
            amount=row["total"],
            count=row["count"],
            percent=row["total"] * 100 // largest if largest else 0,
        )
        for row in rows
    ]


def _name(kind: str, value: Any, keys: Mapping[Any, ApiKey]) -> str:
    if kind == "key":
        return str(keys[value]) if value in keys else "Playground, or a key that is gone"
    return f"{value:%d %b %Y}" if kind == "day" else str(value)


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
