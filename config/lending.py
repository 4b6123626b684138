"""Connections to PostgreSQL that the threads of a process lend, looked at before each has one.

A server that was stopped has closed the connection, or said so on it: there is something to read
where nothing was asked. Where there is not, a connection that was lent a moment ago is taken as
good. The server is asked where there is, and after a while of no use, in which a network may have
lost the connection in silence.
"""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg

TRUSTED_SECONDS = 1.0


class Lent(psycopg.Connection[Any]):
    """One of a pool. The pool's check, which Django chooses, asks it an empty query."""

    lent_at = float("-inf")

    def execute(self, query: Any, params: Any = None, **how: Any) -> psycopg.Cursor[Any]:
        if query != "":
            return super().execute(query, params, **how)
        now = time.monotonic()
        if now - self.lent_at < TRUSTED_SECONDS and not self._has_unread():
            answer = self.cursor()
        else:
            answer = super().execute(query)
        self.lent_at = now
        return answer

    def _has_unread(self) -> bool:
        waiting = select.poll()
        waiting.register(self.fileno(), select.POLLIN)
        return bool(waiting.poll(0))


def options(at_most: int) -> dict[str, Any]:
    """What Django makes its pool with."""
    return {"min_size": 2, "max_size": at_most, "connection_class": Lent}
