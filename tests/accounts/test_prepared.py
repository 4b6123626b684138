"""A statement that is prepared on the server is asked like any other, and outlives its plan."""

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts import prepared

ASKED = "SELECT $1::int + 1"


def plans() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement = %s", [ASKED])
        return cursor.fetchone()[0]


def forget_plans() -> None:
    """As a pooler may, of which psycopg learns nothing."""
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")


def test_it_is_planned_once_unless_that_is_not_wanted(db):
    forget_plans()
    for number in range(7):
        assert prepared.fetch(ASKED, [number], prepare=False) == [(number + 1,)]
    assert plans() == 0
    assert prepared.fetch(ASKED, [1]) == [(2,)]
    assert plans() == 1


def test_django_s_log_of_queries_sees_it(db, django_assert_num_queries):
    with CaptureQueriesContext(connection) as log:
        prepared.fetch(ASKED, [1])
    assert [one["sql"] for one in log.captured_queries] == [ASKED]
    with django_assert_num_queries(2):
        prepared.fetch(ASKED, [1])
        prepared.fetch(ASKED, [2], prepare=False)


def test_a_statement_without_rows_gives_none(db):
    assert prepared.fetch("UPDATE accounts_user SET handle = handle WHERE false", []) == []


@pytest.mark.django_db(transaction=True)
def test_a_statement_that_was_forgotten_is_prepared_again():
    prepared.fetch(ASKED, [1])
    forget_plans()
    assert prepared.fetch(ASKED, [1]) == [(2,)]
    forget_plans()
    with pytest.raises(DatabaseError, match="does not exist"):
        prepared.fetch(ASKED, [1], again=False)
    with pytest.raises(DatabaseError, match="does not exist"), transaction.atomic():
        prepared.fetch(ASKED, [1])
    assert prepared.fetch(ASKED, [1]) == [(2,)]


@pytest.mark.django_db(transaction=True)
def test_a_column_that_a_migration_made_wider_is_read_on_the_same_connection():
    """PostgreSQL refuses a plan whose result has another type now."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE widened (name varchar(5)); INSERT INTO widened VALUES ('a')")
    try:
        asked = "SELECT name FROM widened WHERE name = $1::varchar"
        for _ in range(2):
            assert prepared.fetch(asked, ["a"]) == [("a",)]
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE widened ALTER name TYPE varchar(50)")
        assert prepared.fetch(asked, ["a"]) == [("a",)]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE widened")
