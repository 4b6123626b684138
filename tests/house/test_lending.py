"""A pool asks the server of a connection that it lends only where there is reason to."""

from threading import Barrier, Thread

import psycopg
import pytest
from django.db import connection
from psycopg_pool import ConnectionPool

from config import lending


@pytest.fixture
def asked(monkeypatch):
    """The connections that the server was asked about."""
    found = []
    ask = ConnectionPool.check_connection
    monkeypatch.setattr(
        ConnectionPool,
        "check_connection",
        staticmethod(lambda connection: (found.append(connection), ask(connection))),
    )
    return found


@pytest.fixture
def pool(db):
    how = {**connection.get_connection_params(), "autocommit": True}
    with ConnectionPool(kwargs=how, min_size=2, max_size=2, check=lending.check) as made:
        made.wait()
        yield made


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
    asked.clear()
    assert [lent(pool) for _ in range(5)] == [first] * 5
    assert asked == []


def test_one_that_nobody_used_for_a_while_is_asked(pool, asked, monkeypatch):
    first = lent(pool)
    asked.clear()
    monkeypatch.setattr(lending, "TRUSTED_SECONDS", 0.0)
    assert lent(pool) == first
    assert len(asked) == 2


def test_what_a_server_has_ended_is_not_lent(pool):
    """Within the second, as when PostgreSQL is started again under load."""
    first = lent(pool)
    how = connection.get_connection_params()
    with psycopg.connect(**how, autocommit=True) as other:
        for pid in first:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert not {*lent(pool)} & {*first}


def test_the_process_of_many_threads_lends_so(monkeypatch):
    import importlib

    from config import settings

    monkeypatch.setenv("DATABASE_POOL", "7")
    try:
        made = importlib.reload(settings).DATABASES["default"]
    finally:
        monkeypatch.delenv("DATABASE_POOL")
        importlib.reload(settings)
    assert made["OPTIONS"]["pool"]["check"] is lending.check
    assert made["CONN_HEALTH_CHECKS"] is False
