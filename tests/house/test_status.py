"""Anyone can see whether the books agree; they are compared each night, and staff are alarmed."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client

from accounts.models import Notification, OutboxMessage
from config import books, reconciliation
from config.models import Reconciliation
from ledger.reconciliation import Finding
from tests.ledger.books import capture, fund, hold_for, person

NIGHT = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
OPEN = 10**18
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def without_a_chain(settings):
    settings.CHAIN_ENABLED = False


@pytest.fixture
def staff():
    user = person("staff")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


def differ(monkeypatch, wei=7):
    finding = Finding("escrow of distributions", 5 * OPEN, 5 * OPEN + wei)
    monkeypatch.setattr(books, "check_log", lambda: [finding])


def page(path="/status/", user=None):
    client = Client()
    if user:
        client.force_login(user)
    return client.get(path)


def test_before_the_first_comparison_the_page_says_when_it_comes():
    assert "have not been compared yet" in page().content.decode()


def test_a_stranger_sees_that_books_with_money_agree():
    payer = person("payer")
    fund(payer, 3 * OPEN)
    capture(hold_for(payer, OPEN), OPEN // 2)
    kept = books.reconcile(at=NIGHT)
    assert kept.holds
    shown = page().content.decode()
    assert "agree to the wei" in shown
    assert "captured fees" in shown
    told = page("/api/v1/status/").json()
    assert told["reconciliation"]["holds"] is True
    fees = next(f for f in told["findings"] if f["name"] == "captured fees")
    assert fees["expected"] == str(OPEN // 2)


def test_a_difference_is_shown_to_the_wei_and_staff_are_told_once(monkeypatch, staff):
    differ(monkeypatch)
    for minute in range(3):
        books.reconcile(at=NIGHT + timedelta(minutes=minute))
    shown = page().content.decode()
    assert "The books differ in 1 of" in shown
    assert "+7 wei" in shown
    notice = Notification.objects.get(user=staff, kind="house.books_differ")
    assert "escrow of distributions" in notice.body


def test_staff_are_told_again_on_the_next_night(monkeypatch, staff):
    differ(monkeypatch)
    books.reconcile(at=NIGHT)
    books.reconcile(at=NIGHT + timedelta(days=1))
    assert Notification.objects.filter(user=staff, kind="house.books_differ").count() == 2


def test_it_is_due_once_a_night_and_at_once_where_a_night_was_missed():
    assert books.reconcile_when_due(at=NIGHT) is not None
    assert books.reconcile_when_due(at=NIGHT + timedelta(hours=23, minutes=59)) is None
    assert books.reconcile_when_due(at=NIGHT + timedelta(days=1)) is not None
    # The machine was off for three nights.
    assert books.reconcile_when_due(at=NIGHT + timedelta(days=4, hours=9)) is not None
    assert books.reconcile_when_due(at=NIGHT + timedelta(days=4, hours=10)) is None


def test_a_chain_that_cannot_be_read_is_said_and_tried_again(monkeypatch):
    def down():
        raise reconciliation.ChainNotReadable("The node does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(books, "check_chain", down)
        kept = books.reconcile(at=NIGHT)
    assert not kept.holds
    assert "could not be read" in page().content.decode()
    assert books.reconcile_when_due(at=NIGHT + timedelta(minutes=14)) is None
    assert books.reconcile_when_due(at=NIGHT + timedelta(minutes=15)).holds


def test_two_processes_do_not_compare_at_once():
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [books.LOCK])
            assert books.reconcile(at=NIGHT) is None
            # Given back before the connection ends: the server may take a while to notice that.
            cursor.execute("SELECT pg_advisory_unlock(%s)", [books.LOCK])
    finally:
        # A connection that is closed keeps its locks until the server has noticed.
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [books.LOCK])
        other.close()
    assert books.reconcile(at=NIGHT) is not None


def test_staff_have_it_compared_now_and_others_may_not(staff):
    client = Client()
    assert client.post("/staff/reconcile/").status_code == 302
    client.force_login(person("stranger"))
    assert client.post("/staff/reconcile/").status_code == 403
    assert not OutboxMessage.objects.filter(task=books.TASK).exists()

    client.force_login(staff)
    assert client.get("/staff/reconcile/").status_code == 405
    for _ in range(2):
        assert client.post("/staff/reconcile/").url == "/status/"
    assert OutboxMessage.objects.get(task=books.TASK).queue == "default"


def test_the_staff_page_shows_the_last_result(monkeypatch, staff):
    differ(monkeypatch)
    books.reconcile(at=NIGHT)
    assert "The books differ" in page("/staff/", staff).content.decode()


def test_the_page_costs_the_same_however_often_was_compared(django_assert_max_num_queries):
    for day in range(40):
        Reconciliation.objects.create(
            holds=True, created_at=NIGHT + timedelta(days=day), ended_at=NIGHT
        )
    with django_assert_max_num_queries(12):
        assert page().content.decode().count("chip--good") >= 30
