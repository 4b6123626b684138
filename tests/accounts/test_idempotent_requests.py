"""A request that moves money is carried out once per key, whoever sends it again and when."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts import idempotency
from accounts.models import IdempotentRequest, User
from ledger.models import Entry
from ledger.selectors import balance
from ledger.services import faucet
from tests.ledger.books import person

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
OPEN = 10**18


@pytest.fixture(autouse=True)
def without_a_chain(settings):
    settings.CHAIN_ENABLED = False


@pytest.fixture
def ada(db) -> User:
    return person("ada")


def ask(user: User, key: str | None, amount: int | str = OPEN):
    client = Client()
    client.force_login(user)
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(
        reverse("api-deposits"),
        {"amount": str(amount)},
        content_type="application/json",
        headers=headers,
    )


def test_the_same_request_is_answered_again_and_done_once(ada):
    first, second = ask(ada, "monday"), ask(ada, "monday")
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert balance(ada) == OPEN


@pytest.mark.parametrize("key", [None, "", " ", "x" * 101, "tab\tin it"])
def test_without_a_key_it_is_not_carried_out(ada, key):
    answer = ask(ada, key)
    assert answer.status_code == 400
    assert answer.json()["code"] == "idempotency_key_required"
    assert balance(ada) == 0


def test_another_body_under_the_key_is_refused(ada):
    ask(ada, "monday")
    answer = ask(ada, "monday", 2 * OPEN)
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"
    assert balance(ada) == OPEN


def test_another_person_s_key_is_another_key(ada):
    grace = person("grace")
    assert ask(ada, "monday").status_code == 202
    assert ask(grace, "monday", 2 * OPEN).status_code == 202
    assert (balance(ada), balance(grace)) == (OPEN, 2 * OPEN)


def test_what_was_refused_may_be_sent_again_under_its_key(ada):
    assert ask(ada, "monday", 2_000 * OPEN).json()["code"] == "limit_reached"
    assert ask(ada, "monday", 5 * OPEN).status_code == 202
    assert balance(ada) == 5 * OPEN


@pytest.mark.django_db(transaction=True)
def test_while_the_first_runs_the_second_is_told_so(monkeypatch):
    ada = person("ada")
    inside, go_on = threading.Event(), threading.Event()
    give = faucet.give

    def slow(**values):
        inside.set()
        go_on.wait(20)
        give(**values)

    monkeypatch.setattr("ledger.api.give", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(in_a_thread, ada)
        assert inside.wait(20)
        second = ask(ada, "monday")
        go_on.set()
        assert first.result(20).status_code == 202
    assert second.status_code == 409
    assert second.json()["code"] == "request_running"
    assert balance(ada) == OPEN


def in_a_thread(user):
    try:
        return ask(user, "monday")
    finally:
        connection.close()


def test_a_request_that_died_is_taken_up_again_and_moves_nothing_twice(ada):
    """The money had moved; the process died before it could say so."""
    ask(ada, "monday")
    IdempotentRequest.objects.update(
        state="RUNNING", status=None, answer=None, lease_expires_at=NOON - timedelta(days=400)
    )
    assert ask(ada, "monday").status_code == 202
    assert balance(ada) == OPEN
    assert Entry.objects.count() == 1


def test_a_request_that_breaks_leaves_its_key_free(ada, monkeypatch):
    def broken(**values):
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("ledger.api.give", broken)
        with pytest.raises(RuntimeError):
            ask(ada, "monday")
    assert ask(ada, "monday").status_code == 202


def test_old_requests_are_forgotten(ada):
    idempotency.begin(user=ada, key="old", body_hash="", at=NOON - timedelta(days=8))
    idempotency.begin(user=ada, key="new", body_hash="", at=NOON)
    assert idempotency.forget_old(at=NOON) == 1
    assert IdempotentRequest.objects.get().key == "new"


def test_a_stranger_is_not_admitted(db):
    answer = Client().post(reverse("api-deposits"), {"amount": "1"})
    assert answer.status_code in (401, 403)
    assert not IdempotentRequest.objects.exists()
