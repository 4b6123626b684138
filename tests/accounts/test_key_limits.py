"""A key opens what its scopes say, spends to its cap, and asks as often as its limits allow."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from django.db import transaction
from rest_framework.test import APIClient

from accounts import api_keys, key_spending, rate_limits
from accounts.api_keys import Limits
from accounts.key_spending import KeyCapReached
from accounts.models import ApiKey, AuditEvent, KeySpending, Scope, User

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@openledger.test", "correct horse battery", handle="ada")


def key_of(user: User, *scopes: Scope, **limits: int) -> tuple[ApiKey, str]:
    return api_keys.create_key(
        user=user,
        name="laptop",
        acting_user=user,
        at=NOON,
        scopes=scopes or tuple(Scope),
        limits=Limits(**limits),
    )


@pytest.mark.parametrize(
    ("scope", "method", "address", "body"),
    [
        (Scope.READ, "get", "/api/v1/balance/", None),
        (Scope.MONEY, "post", "/api/v1/withdrawals/", {}),
        (Scope.WRITE, "put", "/api/v1/budget/", {}),
    ],
)
def test_each_scope_opens_its_own(ada, scope, method, address, body):
    client = APIClient()
    for given in Scope:
        _, secret = key_of(ada, given)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
        answer = getattr(client, method)(address, body, format="json")
        if given == scope:
            assert answer.status_code not in (403, 404, 405), answer.content
        else:
            assert answer.status_code == 403
            assert scope.value in answer.json()["detail"]


def test_what_is_counted_together_stays_under_the_cap(ada):
    key, _ = key_of(ada, spend_cap=100)
    key_spending.count(key=key, amount=60, at=NOON)
    with pytest.raises(KeyCapReached), transaction.atomic():
        key_spending.count(key=key, amount=41, at=NOON)
    key_spending.count(key=key, amount=40, at=NOON)
    key_spending.give_back(key_id=key.pk, amount=15, counted_at=NOON)
    assert key_spending.spent([key], NOON) == {key.pk: 85}
    key_spending.count(key=key, amount=15, at=NOON)


def test_a_new_month_begins_at_nothing(ada):
    key, _ = key_of(ada, spend_cap=100)
    key_spending.count(key=key, amount=100, at=NOON)
    later = NOON + timedelta(days=10)
    key_spending.count(key=key, amount=100, at=later)
    key_spending.give_back(key_id=key.pk, amount=30, counted_at=NOON)
    assert sorted(KeySpending.objects.values_list("month__month", "amount")) == [
        (11, 70),
        (12, 100),
    ]


def test_a_cap_that_is_raised_holds_at_once(ada):
    key, _ = key_of(ada, spend_cap=10)
    api_keys.limit_key(key=key, limits=Limits(spend_cap=50), acting_user=ada, at=NOON)
    key_spending.count(key=key, amount=50, at=NOON)
    assert AuditEvent.objects.filter(verb="api_key.limited").count() == 1


def test_requests_over_the_limit_wait_for_the_next_minute(ada):
    key, _ = key_of(ada, requests_per_minute=2)
    first, second, third = (rate_limits.take_request(key) for _ in range(3))
    assert first.exceeded is None
    assert second.exceeded is None
    assert third.exceeded is not None
    assert third.exceeded.name == "requests"
    assert first.headers["RateLimit-Policy"].startswith('"requests";q=2;w=60, "tokens";q=')
    assert first.headers["RateLimit"].startswith('"requests";r=1;t=')
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert 1 <= int(third.headers["Retry-After"]) <= 60


def test_tokens_over_the_limit_stop_the_next_request(ada):
    key, _ = key_of(ada, tokens_per_minute=100)
    assert rate_limits.take_request(key).exceeded is None
    rate_limits.count_tokens(key.pk, 100)
    over = rate_limits.take_request(key).exceeded
    assert over is not None
    assert (over.name, over.left) == ("tokens", 0)
    other, _ = key_of(ada, tokens_per_minute=100)
    assert rate_limits.take_request(other).exceeded is None


def test_a_window_ends_a_minute_after_its_first_request(ada):
    key, _ = key_of(ada, requests_per_minute=1, tokens_per_minute=10)
    rate_limits.count_tokens(key.pk, 10)
    refused = [rate_limits.take_request(key) for _ in range(2)][1]
    assert [one.reset for one in refused.windows] == [60, 60]
    for name in ("requests", "tokens"):
        # Told by Redis alone, whose clock a test does not move.
        assert rate_limits._client().pexpire(rate_limits._place(key.pk, name), 1)
    time.sleep(0.01)
    assert [one.left for one in rate_limits.take_request(key).windows] == [0, 10]
    assert rate_limits.take_request(key).exceeded is not None


def test_both_limits_are_one_round_trip(ada, monkeypatch):
    key, _ = key_of(ada)
    sent = []
    send = redis.Connection.send_packed_command
    monkeypatch.setattr(
        redis.Connection,
        "send_packed_command",
        lambda self, command, **how: (sent.append(command), send(self, command, **how))[1],
    )
    rate_limits.take_request(key)
    assert len(sent) == 1
    rate_limits.count_tokens(key.pk, 5)
    assert len(sent) == 2


def test_without_redis_nobody_is_refused(ada, settings):
    key, _ = key_of(ada, requests_per_minute=1)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    forget_clients()
    try:
        for _ in range(3):
            assert rate_limits.take_request(key) == rate_limits.Allowance()
        rate_limits.count_tokens(key.pk, 5)
    finally:
        forget_clients()


def forget_clients() -> None:
    rate_limits._client.cache_clear()


def test_a_person_makes_limits_and_changes_a_key(ada, client):
    client.force_login(ada)
    made = client.post(
        "/people/me/keys/",
        {
            "name": "ci",
            "days": "30",
            "scopes": ["ASK"],
            "spend_cap": "1.5",
            "requests_per_minute": 9,
        },
    )
    assert b"olk_" in made.content
    key = ApiKey.objects.get()
    assert (key.scopes, key.spend_cap, key.requests_per_minute) == (["ASK"], 15 * 10**17, 9)
    assert client.post(f"/people/me/keys/{key.pk}/", {"spend_cap": "2"}).status_code == 302
    key.refresh_from_db()
    assert (key.spend_cap, key.requests_per_minute) == (2 * 10**18, None)
    page = client.get(f"/people/me/keys/{key.pk}/").content.decode()
    assert 'value="2"' in page
    assert "ASK" in page
    assert b"Choose at least one" in client.post("/people/me/keys/", {"name": "x"}).content


def test_a_stranger_sees_nobody_s_key(ada, client):
    key, _ = key_of(ada)
    assert client.get(f"/people/me/keys/{key.pk}/").status_code == 302
    eve = User.objects.create_user("eve@openledger.test", "correct horse battery", handle="eve")
    client.force_login(eve)
    assert client.get(f"/people/me/keys/{key.pk}/").status_code == 404
    assert client.post(f"/people/me/keys/{key.pk}/", {"spend_cap": "2"}).status_code == 404
