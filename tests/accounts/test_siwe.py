"""Signing in with a wallet: one text, one attempt, our domain, our chain, the asked account."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from accounts import siwe
from accounts.models import AuditEvent, User, Wallet
from accounts.models.challenge import SignInChallenge
from tests.accounts.test_ethereum import ADDRESS, KEY, sign

pytestmark = pytest.mark.django_db

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


def post(client: Client, name: str, body: Any, **extra: Any) -> tuple[int, dict[str, Any]]:
    answer = client.post(
        reverse(f"people:{name}"), json.dumps(body), content_type="application/json", **extra
    )
    return answer.status_code, answer.json()


def asked(client: Client, *, link: bool = False, address: str = ADDRESS) -> dict[str, Any]:
    name = "link_challenge" if link else "sign_in_challenge"
    status, answer = post(client, name, {"address": address, "chain_id": 31337})
    assert status == 200, answer
    return answer


def signed(challenge: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    signature = sign(key, challenge["text"])
    return {"challenge": challenge["challenge"], "signature": signature, "next": "/people/me/"}


def user_of(client: Client) -> str | None:
    return client.session.get("_auth_user_id")


def test_a_new_wallet_makes_an_account_and_is_let_in(client: Client) -> None:
    status, answer = post(client, "sign_in", signed(asked(client)))
    assert (status, answer) == (200, {"next": "/people/me/"})
    user = Wallet.objects.get(address=ADDRESS, is_primary=True).user
    assert user_of(client) == str(user.pk)
    assert not user.has_usable_password()
    assert AuditEvent.objects.filter(verb="user.joined_by_wallet", actor=user).count() == 1


def test_a_known_wallet_signs_in_as_its_person(client: Client, ada: User) -> None:
    Wallet.objects.create(user=ada, address=ADDRESS)
    post(client, "sign_in", signed(asked(client, address=ADDRESS.lower())))
    assert user_of(client) == str(ada.pk)
    assert User.objects.count() == 1


def test_the_text_is_laid_out_as_eip_4361_says(client: Client) -> None:
    challenge = SignInChallenge.objects.get(pk=asked(client)["challenge"])
    lines = challenge.text.split("\n")
    assert lines[0] == "testserver wants you to sign in with your Ethereum account:"
    assert lines[1:3] == [ADDRESS, ""]
    assert lines[4:10] == [
        "",
        "URI: http://testserver",
        "Version: 1",
        "Chain ID: 31337",
        f"Nonce: {challenge.nonce}",
        f"Issued At: {challenge.issued_at:%Y-%m-%dT%H:%M:%SZ}",
    ]
    assert lines[10:] == [f"Expiration Time: {challenge.expires_at:%Y-%m-%dT%H:%M:%SZ}"]
    assert challenge.nonce.isalnum()
    assert len(challenge.nonce) >= 8


def test_a_signature_is_good_once(client: Client) -> None:
    body = signed(asked(client))
    assert post(client, "sign_in", body)[0] == 200
    client.logout()
    assert post(client, "sign_in", body)[0] == 400
    assert user_of(client) is None


def test_a_signature_is_good_once_in_any_session(client: Client) -> None:
    body = signed(asked(client))
    assert post(client, "sign_in", body)[0] == 200
    thief = Client()
    session = thief.session
    session["wallet_challenge"] = body["challenge"]
    session.save()
    status, answer = post(thief, "sign_in", body)
    assert (status, answer["error"]["code"]) == (400, "spent")
    assert user_of(thief) is None


def test_a_failed_attempt_spends_the_text_too(client: Client) -> None:
    challenge = asked(client)
    status, answer = post(client, "sign_in", signed(challenge, OTHER_KEY))
    assert (status, answer["error"]["code"]) == (400, "wrong_address")
    session = client.session
    session["wallet_challenge"] = challenge["challenge"]
    session.save()
    assert post(client, "sign_in", signed(challenge))[1]["error"]["code"] == "spent"


def test_another_browser_cannot_use_the_text(client: Client) -> None:
    status, answer = post(Client(), "sign_in", signed(asked(client)))
    assert (status, answer["error"]["code"]) == (400, "wrong_session")


def test_a_text_that_the_server_did_not_write_proves_nothing(client: Client) -> None:
    challenge = asked(client)
    forged = challenge["text"].replace("Chain ID: 31337", "Chain ID: 1")
    body = {"challenge": challenge["challenge"], "signature": sign(KEY, forged)}
    assert post(client, "sign_in", body)[1]["error"]["code"] == "wrong_address"


def test_another_chain_is_refused_and_the_right_one_named(client: Client) -> None:
    status, answer = post(client, "sign_in_challenge", {"address": ADDRESS, "chain_id": 1})
    assert (status, answer["error"]["code"]) == (400, "wrong_chain")
    assert answer["error"]["chain_id"] == 31337


def test_a_text_for_the_chain_of_yesterday_is_refused(client: Client, settings: Settings) -> None:
    body = signed(asked(client))
    settings.CHAIN_ID = 8453
    assert post(client, "sign_in", body)[1]["error"]["code"] == "wrong_chain"


def test_an_expired_text_is_refused(client: Client) -> None:
    body = signed(asked(client))
    past = timezone.now() - siwe.LIFETIME - timedelta(seconds=1)
    SignInChallenge.objects.update(issued_at=past, expires_at=past + siwe.LIFETIME)
    assert post(client, "sign_in", body)[1]["error"]["code"] == "expired"


def test_a_text_for_another_domain_is_refused(client: Client, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["testserver", "other.test"]
    body = signed(asked(client))
    status, answer = post(client, "sign_in", body, headers={"host": "other.test"})
    assert (status, answer["error"]["code"]) == (400, "wrong_domain")


def test_a_text_to_link_does_not_sign_in(client: Client, ada: User) -> None:
    client.force_login(ada)
    body = signed(asked(client, link=True))
    assert post(client, "sign_in", body)[1]["error"]["code"] == "wrong_purpose"


def test_a_closed_account_stays_closed(client: Client, ada: User) -> None:
    Wallet.objects.create(user=ada, address=ADDRESS)
    User.objects.update(is_active=False)
    status, answer = post(client, "sign_in", signed(asked(client)))
    assert (status, answer["error"]["message"]) == (409, "This account is closed.")
    assert user_of(client) is None


@pytest.mark.parametrize("wish", ["https://evil.test/", "//evil.test", "javascript:alert(1)", 7])
def test_it_leads_nowhere_else_afterwards(client: Client, wish: object) -> None:
    body = {**signed(asked(client)), "next": wish}
    assert post(client, "sign_in", body)[1] == {"next": "/"}


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"address": ADDRESS},
        {"address": ADDRESS, "chain_id": "31337"},
        {"address": ADDRESS, "chain_id": True},
        {"address": 7, "chain_id": 31337},
        {"address": ADDRESS[:-1], "chain_id": 31337},
        {"address": "x" * 20_000, "chain_id": 31337},
    ],
)
def test_what_no_wallet_sends_is_refused_with_a_reason(client: Client, body: Any) -> None:
    status, answer = post(client, "sign_in_challenge", body)
    assert status == 400
    assert answer["error"]["message"]
    assert SignInChallenge.objects.count() == 0


def test_a_second_factor_is_still_asked_for(client: Client, ada: User) -> None:
    from allauth.account.models import EmailAddress
    from allauth.mfa.models import Authenticator

    EmailAddress.objects.create(user=ada, email=ada.email or "", verified=True, primary=True)
    Authenticator.objects.create(
        user=ada, type=Authenticator.Type.TOTP, data={"secret": "JBSWY3DPEHPK3PXP"}
    )
    Wallet.objects.create(user=ada, address=ADDRESS)
    status, answer = post(client, "sign_in", signed(asked(client)))
    assert (status, answer) == (200, {"next": reverse("mfa_authenticate")})
    assert user_of(client) is None


def test_attempts_are_limited(client: Client) -> None:
    statuses = [
        post(client, "sign_in_challenge", {"address": ADDRESS, "chain_id": 31337})[0]
        for _ in range(31)
    ]
    assert statuses[-1] == 429
    assert set(statuses[:-1]) == {200}


def test_csrf_protects_the_endpoints() -> None:
    strict = Client(enforce_csrf_checks=True)
    for name in ["sign_in_challenge", "sign_in", "link_challenge", "link_wallet"]:
        url = reverse(f"people:{name}")
        assert strict.post(url, "{}", content_type="application/json").status_code == 403
        assert strict.get(url).status_code == 405


def test_old_texts_are_forgotten(client: Client) -> None:
    asked(client)
    assert siwe.forget_expired(at=timezone.now()) == 0
    assert siwe.forget_expired(at=timezone.now() + timedelta(days=2)) == 1
