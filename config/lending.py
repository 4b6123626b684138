"""Looks at a connection to PostgreSQL before the pool lends it, mostly without asking the server.

A server that was stopped has closed the connection, or said so on it: there is something to read
where nothing was asked. Where there is not, a connection that was lent a moment ago is taken as
good. The server is asked where there is, and after a while of no use, in which a network may have
lost the connection in silence.
"""

from __future__ import annotations

import select
import time
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import ConnectionPool

TRUSTED_SECONDS = 1.0

_lent: WeakKeyDictionary[psycopg.Connection[Any], float] = WeakKeyDictionary()


def check(connection: psycopg.Connection[Any]) -> None:
    """For psycopg_pool, which lends another one where this raises."""
    now = time.monotonic()
    trusted = now - _lent.get(connection, 0.0) < TRUSTED_SECONDS
    if not trusted or _has_unread(connection):
        ConnectionPool.check_connection(connection)
    _lent[connection] = now


def _has_unread(connection: psycopg.Connection[Any]) -> bool:
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
