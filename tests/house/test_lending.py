"""A pool asks the server of a connection that it lends only where there is reason to."""

import copy
from threading import Barrier, Thread

import psycopg
import pytest
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg_pool import ConnectionPool

from config import lending


@pytest.fixture
def pool(db):
    """As Django makes it, with two connections."""
    how = copy.deepcopy(connection.settings_dict)
    how.update(CONN_MAX_AGE=0, OPTIONS={**how["OPTIONS"], "pool": lending.options(2)})
    wrapper = DatabaseWrapper(how, "lent")
    wrapper.pool.open(wait=True)
    yield wrapper.pool
    wrapper.close_pool()


@pytest.fixture
def asked(monkeypatch):
    """The empty queries that went to the server."""
    found = []
    ask = psycopg.Connection.execute
    monkeypatch.setattr(
        psycopg.Connection,
        "execute",
        lambda self, query, *args, **how: (
            query == "" and found.append(self),
            ask(self, query, *args, **how),
        )[1],
    )
    return found


def lent(pool: ConnectionPool) -> list[int]:
    """Ask on both at once; the processes that answered."""
    both, found = Barrier(2), []

    def ask() -> None:
        with pool.connection(timeout=20) as one:
            both.wait(20)
            found.append(one.execute("SELECT pg_backend_pid()").fetchone()[0])

    threads = [Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    return sorted(found)


def test_one_that_was_just_lent_is_lent_without_asking(pool, asked):
    first = lent(pool)
    assert len(asked) == 2
    assert [lent(pool) for _ in range(5)] == [first] * 5
    assert len(asked) == 2


def test_one_that_nobody_used_for_a_while_is_asked(pool, asked, monkeypatch):
    first = lent(pool)
    monkeypatch.setattr(lending, "TRUSTED_SECONDS", 0.0)
    assert lent(pool) == first
    assert len(asked) == 4


def test_what_a_server_has_ended_is_not_lent(pool):
    """Within the second, as when PostgreSQL is started again under load."""
    first = lent(pool)
    how = connection.get_connection_params()
    with psycopg.connect(**how, autocommit=True) as other:
        for pid in first:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert not {*lent(pool)} & {*first}
