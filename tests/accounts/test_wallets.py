"""Linking and unlinking wallets: one person each, one that is paid, never locked out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.models import AuditEvent, Notification, User, Wallet
from accounts.services import wallets
from tests.accounts.test_ethereum import ADDRESS, KEY, sign

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OTHER_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
OTHER_ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture(autouse=True)
def fresh(settings: Settings) -> None:
    settings.CHAIN_ID = 31337
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@openledger.test", "correct horse battery")


@pytest.fixture
def as_ada(ada: User) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def post(client: Client, name: str, body: Any) -> tuple[int, dict[str, Any]]:
    url = reverse(f"people:{name}")
    answer = client.post(url, json.dumps(body), content_type="application/json")
    return answer.status_code, answer.json()


def link(client: Client, key: str, address: str) -> tuple[int, dict[str, Any]]:
    _, challenge = post(client, "link_challenge", {"address": address, "chain_id": 31337})
    signature = sign(key, challenge["text"])
    return post(
        client, "link_wallet", {"challenge": challenge["challenge"], "signature": signature}
    )


def test_several_wallets_are_linked_and_the_first_is_paid(as_ada: Client, ada: User) -> None:
    assert link(as_ada, KEY, ADDRESS) == (200, {"next": "/people/me/wallets/"})
    assert link(as_ada, OTHER_KEY, OTHER_ADDRESS.lower())[0] == 200
    rows = ada.wallets.order_by("created_at").values_list("address", "is_primary")
    assert list(rows) == [(ADDRESS, True), (OTHER_ADDRESS, False)]
    assert AuditEvent.objects.filter(verb="wallet.linked").count() == 2
    assert Notification.objects.filter(user=ada, kind="wallet.linked").count() == 2
    page = as_ada.get(reverse("people:wallets")).content.decode()
    assert ADDRESS in page
    assert OTHER_ADDRESS in page


def test_linking_twice_changes_nothing(as_ada: Client) -> None:
    link(as_ada, KEY, ADDRESS)
    assert link(as_ada, KEY, ADDRESS)[0] == 200
    assert Wallet.objects.count() == 1
    assert AuditEvent.objects.filter(verb="wallet.linked").count() == 1


def test_a_wallet_of_somebody_else_is_refused(as_ada: Client) -> None:
    bob = User.objects.create_user("bob@openledger.test", "correct horse battery")
    Wallet.objects.create(user=bob, address=ADDRESS.lower())
    status, answer = link(as_ada, KEY, ADDRESS)
    assert (status, answer["error"]["message"]) == (
        409,
        "This wallet is linked to another account.",
    )
    assert Wallet.objects.get().user == bob


def test_linking_needs_to_be_signed_in(client: Client) -> None:
    for name in ["link_challenge", "link_wallet"]:
        body = {"address": ADDRESS, "chain_id": 31337, "challenge": "x", "signature": "x"}
        status, answer = post(client, name, body)
        assert (status, answer["error"]["code"]) == (400, "signed_out")


def test_a_text_for_one_person_links_to_nobody_else(as_ada: Client, client: Client) -> None:
    bob = User.objects.create_user("bob@openledger.test", "correct horse battery")
    client.force_login(bob)
    _, challenge = post(as_ada, "link_challenge", {"address": ADDRESS, "chain_id": 31337})
    session = client.session
    session["wallet_challenge"] = challenge["challenge"]
    session.save()
    body = {"challenge": challenge["challenge"], "signature": sign(KEY, challenge["text"])}
    assert post(client, "link_wallet", body)[1]["error"]["code"] == "wrong_purpose"
    assert Wallet.objects.count() == 0


def test_another_wallet_is_paid_from_now_on(as_ada: Client, ada: User) -> None:
    first = wallets.link_wallet(user=ada, address=ADDRESS, acting_user=ada, at=NOON)
    second = wallets.link_wallet(user=ada, address=OTHER_ADDRESS, acting_user=ada, at=NOON)
    as_ada.post(reverse("people:primary_wallet", args=[second.pk]))
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.is_primary, second.is_primary) == (False, True)


def test_unlinking_the_paid_wallet_leaves_the_next_one_paid(as_ada: Client, ada: User) -> None:
    first = wallets.link_wallet(user=ada, address=ADDRESS, acting_user=ada, at=NOON)
    wallets.link_wallet(user=ada, address=OTHER_ADDRESS, acting_user=ada, at=NOON)
    as_ada.post(reverse("people:unlink_wallet", args=[first.pk]))
    assert ada.wallets.get().address == OTHER_ADDRESS
    assert ada.wallets.get().is_primary
    assert AuditEvent.objects.get(verb="wallet.unlinked").data == {"address": ADDRESS}


def test_the_only_way_to_sign_in_is_kept(client: Client) -> None:
    user, _ = wallets.sign_in_or_join(address=ADDRESS, at=NOON)
    client.force_login(user)
    answer = client.post(reverse("people:unlink_wallet", args=[user.wallets.get().pk]), follow=True)
    assert "your only way to sign in" in answer.content.decode()
    assert user.wallets.count() == 1


def test_who_has_a_password_may_unlink_the_last_wallet(as_ada: Client, ada: User) -> None:
    wallet = wallets.link_wallet(user=ada, address=ADDRESS, acting_user=ada, at=NOON)
    as_ada.post(reverse("people:unlink_wallet", args=[wallet.pk]))
    assert ada.wallets.count() == 0
