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
from collections.abc import Callable, Collection, Sequence
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
    sql: str
    numbered: str  # the same with $1, $2, … in the places, and what never changes written out
    asked: tuple[int, ...]  # which parameters those places are
    constants: tuple[Any, ...]
    places: tuple[tuple[int, str], ...]  # of a value among the parameters, and its name
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
        parameters = list(made.constants)
        for place, name in made.places:
            parameters[place] = values[name]
        compiler = copy.copy(made.compiler)
        compiler.connection = connections[DEFAULT_DB_ALIAS]
        if compiler.connection.queries_logged:
            # Who looks at what is asked is shown it as any other query.
            compiler.as_sql = lambda: (made.sql, tuple(parameters))
        else:
            asked = [parameters[place] for place in made.asked]
            compiler.execute_sql = lambda *_, **__: [prepared.fetch(made.numbered, asked)]
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
        names = {marker: name for name, marker in markers.items()}
        places = tuple(
            (place, names[value])
            for place, value in enumerate(parameters)
            if isinstance(value, Value) and value in names
        )
        if {name for _, name in places} != set(values):
            raise TypeError("A value of a compiled query does not stand among its parameters.")
        gives_rows = found._iterable_class is ValuesListIterable
        numbered, asked = _numbered(sql, parameters, {place for place, _ in places})
        return _Made(
            compiler,
            sql,
            numbered,
            asked,
            tuple(parameters),
            places,
            frozenset(values),
            gives_rows,
        )


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
    sql: str, parameters: Sequence[Any], values: Collection[int]
) -> tuple[str, tuple[int, ...]]:
    """With PostgreSQL's own places, and which parameters stand there.

    Texts of our own code are written out: a plan that knows them can use a partial index. A percent
    sign of the SQL itself stands doubled in Django's.
    """
    first, *rest = sql.replace("%%", "\0").split("%s")
    text, asked = first, []
    for place, part in enumerate(rest):
        value = parameters[place]
        if place in values or not isinstance(value, str):
            asked.append(place)
            text += f"${len(asked)}{part}"
        else:
            text += sql_of.Literal(str(value)).as_string(None) + part
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
