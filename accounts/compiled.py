"""Queries that every request asks, with SQL that is made once in a process.

Django builds and compiles a query anew each time; for a query with a few joins that takes longer
than PostgreSQL needs to answer it. A `Compiled` keeps what the compiler made of the query with a
marker in the place of each value, and puts the values there when it is asked.

The values stay parameters, which the driver sends beside the SQL; none is ever written into it.
PostgreSQL keeps its plan for each connection (`accounts.prepared`).

For queries of one shape alone, on the default database: values are UUIDs, texts and times, never
None (IS NULL is another query), and there is no list of them. What `build` reads beside its values
(a setting, a constant) is that of the first time for ever, so it should read nothing.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable, ValuesListIterable
from psycopg import sql as sql_of

from accounts import prepared

M = TypeVar("M", bound=Model)
Value = UUID | str | datetime


@dataclass(frozen=True, slots=True)
class _Made:
    compiler: Any
    sql: str  # with $1, $2, … in the places of what is asked
    asked: tuple[tuple[str | None, Any], ...]  # a value's name, or None and a constant
    names: frozenset[str]
    gives_rows: bool


class Compiled(Generic[M]):
    """`build` makes the query of its values by name, as in `lambda pk: Run.objects.filter(pk=pk)`.

    Thread-safe. The query is asked when it is called, each time. Raises TypeError for what it is
    not made for, the first time at the latest.
    """

    def __init__(self, build: Callable[..., QuerySet[M, Any]]) -> None:
        self._build = build
        self._made: _Made | None = None
        self._lock = threading.Lock()

    def __call__(self, **values: Value) -> list[M]:
        """The objects that the query finds."""
        compiler = self._compiler(values, rows=False)
        return list(ModelIterable(_Asked(compiler)))  # type: ignore[arg-type]

    def first(self, **values: Value) -> M | None:
        """The first of them in the query's order; the query itself should find one at most."""
        found = self(**values)
        return found[0] if found else None

    def rows(self, **values: Value) -> list[tuple[Any, ...]]:
        """What a query of `values_list` finds."""
        return list(self._compiler(values, rows=True).results_iter(tuple_expected=True))

    def _compiler(self, values: dict[str, Value], *, rows: bool) -> Any:
        made = self._made
        if made is None:
            with self._lock:
                made = self._made = self._made or self._make(values)
        if values.keys() != made.names or None in values.values():
            raise TypeError(f"A compiled query needs a value for each of {sorted(made.names)}.")
        if rows is not made.gives_rows:
            raise TypeError("A compiled query gives rows where it has values_list, else objects.")
        asked = [constant if name is None else values[name] for name, constant in made.asked]
        compiler = copy.copy(made.compiler)
        compiler.connection = connections[DEFAULT_DB_ALIAS]
        compiler.execute_sql = lambda *_, **__: [prepared.fetch(made.sql, asked)]
        return compiler

    def _make(self, values: dict[str, Value]) -> _Made:
        markers = {
            name: _marker(number, value) for number, (name, value) in enumerate(values.items())
        }
        found: Any = self._build(**markers)
        if found._prefetch_related_lookups:
            raise TypeError("A compiled query prefetches nothing.")
        if found._iterable_class not in (ModelIterable, ValuesListIterable):
            raise TypeError("A compiled query gives objects, or rows by values_list.")
        compiler = found.query.get_compiler(DEFAULT_DB_ALIAS)
        sql, parameters = compiler.as_sql()
        compiler.connection = None  # of the thread that made it
        sql, asked = _numbered(sql, parameters, {one: name for name, one in markers.items()})
        if {name for name, _ in asked if name is not None} != set(values):
            raise TypeError("A value of a compiled query does not stand among its parameters.")
        gives_rows = found._iterable_class is ValuesListIterable
        return _Made(compiler, sql, asked, frozenset(values), gives_rows)


class _Asked:
    """What ModelIterable asks of a queryset."""

    db = DEFAULT_DB_ALIAS
    _known_related_objects: dict[Any, Any] = {}

    def __init__(self, compiler: Any) -> None:
        self._compiler = compiler
        self.query = self

    def get_compiler(self, using: str) -> Any:
        return self._compiler


def _numbered(
    sql: str, parameters: Sequence[Any], names: Mapping[Value, str]
) -> tuple[str, tuple[tuple[str | None, Any], ...]]:
    """With PostgreSQL's own places, and what is asked there: the value of a name, or a constant.

    Texts of our own code are written out: a plan that knows them can use a partial index. A percent
    sign of the SQL itself stands doubled in Django's.
    """
    first, *rest = sql.replace("%%", "\0").split("%s")
    text, asked = first, []
    for parameter, part in zip(parameters, rest, strict=True):
        name = names.get(parameter) if isinstance(parameter, Value) else None
        if name is None and isinstance(parameter, str):
            text += sql_of.Literal(str(parameter)).as_string(None) + part
        else:
            asked.append((name, parameter))
            text += f"${len(asked)}{part}"
    return text.replace("\0", "%"), tuple(asked)


def _marker(number: int, value: Value) -> Value:
    """A value of the same kind that no query has of itself."""
    if isinstance(value, UUID):
        return UUID(int=(1 << 128) - 1 - number)
    if isinstance(value, datetime):
        return datetime(9999, 1, 1, microsecond=number, tzinfo=UTC)
    if isinstance(value, str):
        return f"\0{number}"
    raise TypeError(f"A compiled query has no values of {type(value).__name__}.")
