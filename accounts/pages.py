"""Where a thing's page is, for rooms that may not import the room that shows it."""

from collections.abc import Callable
from uuid import UUID

from django.urls import NoReverseMatch

_builders: dict[str, Callable[[UUID | str], str]] = {}


def register(kind: str, builder: Callable[[UUID | str], str]) -> None:
    """Tell that `builder(id)` is the URL of the page of a `kind`."""
    _builders[kind] = builder


def url(kind: str, identifier: UUID | str | None) -> str:
    """Return the page's URL, or "" where that kind has none."""
    if kind not in _builders or identifier is None:
        return ""
    try:
        return _builders[kind](identifier)
    except NoReverseMatch:
        return ""
