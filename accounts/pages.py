"""Where a thing's page is, for rooms that may not import the room that shows it."""

from collections.abc import Callable, Iterable
from uuid import UUID

from django.urls import NoReverseMatch

_builders: dict[str, Callable[[UUID | str], str]] = {}
_namers: dict[str, Callable[[Iterable[UUID]], dict[UUID, str]]] = {}


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


def register_names(kind: str, namer: Callable[[Iterable[UUID]], dict[UUID, str]]) -> None:
    """Tell that `namer(ids)` gives the names that people know things of a `kind` by."""
    _namers[kind] = namer


def names(kind: str, identifiers: Iterable[UUID]) -> dict[UUID, str]:
    """Names by id, in one call; an id without a name stands for itself, cut short."""
    wanted = set(identifiers)
    known = known_names(kind, wanted)
    return {pk: known.get(pk) or f"{str(pk)[:8]}…{str(pk)[-4:]}" for pk in wanted}


def known_names(kind: str, identifiers: Iterable[UUID]) -> dict[UUID, str]:
    """The same without the ids that have no name, such as those of what is not public."""
    wanted = set(identifiers)
    return _namers[kind](wanted) if kind in _namers and wanted else {}
