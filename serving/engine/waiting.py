"""Who is next when more is asked than fits: owners take turns by the tokens that they had.

A virtual counter for each owner, as in Sheng and others, 2024 ("Fairness in serving large language
models"): the owner who has been served least is next, in order of arrival within. Whoever comes
after a pause starts at the least of those who wait, so that nobody saves up. Whoever was let in
nothing for LONGEST_WAIT goes first, whatever was served before: a counter that grew while nobody
else asked must not shut its owner out when others come. No torch here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from serving.engine.row import Row

LONGEST_WAIT = 10.0  # seconds in which an owner who waits is let in at least once


class Waiting:
    """For one thread at a time; the engine's lock guards it. `clock` tells seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}  # each waits, or was let in last
        self._rows: dict[str, deque[Row]] = {}
        self._served: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._rows.values())

    def __iter__(self) -> Iterator[Row]:
        for rows in self._rows.values():
            yield from rows

    def push(self, row: Row) -> None:
        owner = row.request.owner
        if owner not in self._rows:
            floor = min((self._served[one] for one in self._rows), default=0.0)
            if not self._rows:
                # Nobody waits: what was before counts for those who are served now only.
                floor = self._served.get(owner, 0.0)
            self._served[owner] = max(self._served.get(owner, 0.0), floor)
            self._rows[owner] = deque()
            self._since[owner] = self._clock()
        self._rows[owner].append(row)

    def first(self) -> Row | None:
        """Who is next; stays in the queue until `remove`."""
        if not self._rows:
            return None
        longest = min(self._rows, key=lambda owner: self._since[owner])
        if self._clock() - self._since[longest] > LONGEST_WAIT:
            return self._rows[longest][0]
        return self._rows[min(self._rows, key=lambda owner: self._served[owner])][0]

    def remove(self, row: Row) -> None:
        owner = row.request.owner
        self._rows[owner].remove(row)
        self._since[owner] = self._clock()
        if not self._rows[owner]:
            del self._rows[owner], self._since[owner]

    def charge(self, owner: str, tokens: float) -> None:
        """Count tokens that an owner got."""
        self._served[owner] = self._served.get(owner, 0.0) + tokens
        if len(self._served) > 10_000:
            self._served = {one: self._served[one] for one in self._rows if one in self._served}

    def clear(self) -> list[Row]:
        rows = list(self)
        self._rows.clear()
        self._since.clear()
        return rows
