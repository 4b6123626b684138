"""E-mail and password: confirmed before use, reset by mail, second factors, and no tell-tales."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import NoReverseMatch, reverse
from pytest_django import Settings

from accounts.models import User
from accounts.people.sign_up import SignUpForm

pytestmark = pytest.mark.django_db

EMAIL = "ada@openledger.test"
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def fresh(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()


@pytest.fixture
def ada() -> User:
    user = User.objects.create_user(EMAIL, PASSWORD)
    EmailAddress.objects.create(user=user, email=EMAIL, verified=True, primary=True)
    return user


def sign_up(client: Client, email: str = EMAIL, password: str = PASSWORD) -> str:
    answer = client.post(
        reverse("account_signup"),
        {"email": email, "password1": password, "password2": password},
        follow=True,
    )
    return answer.content.decode()


def sign_in(client: Client, email: str = EMAIL, password: str = PASSWORD) -> str:
    answer = client.post(
        reverse("account_login"), {"login": email, "password": password}, follow=True
    )
    return answer.content.decode()


def link_in_mail() -> str:
    found = re.search(r"http://testserver(/\S+)", mail.outbox[-1].body)
    assert found
    return found[1]


def is_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_an_address_is_confirmed_before_anybody_gets_in(client: Client) -> None:
    sign_up(client)
    sign_in(client)
    assert not is_in(client)
    client.post(link_in_mail())
    sign_in(client)
    assert is_in(client)
    assert User.objects.get().handle.startswith("person-")


def test_signing_up_twice_at_once_makes_one_account(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_up(Client())
    later = sign_up(Client())
    clean = SignUpForm.clean

    def too_early(form: SignUpForm) -> Any:
        """Look for the account just before the other click has made it."""
        data = clean(form)
        form.account_already_exists = False
        return data

    monkeypatch.setattr(SignUpForm, "clean", too_early)
    page = sign_up(client)
    assert User.objects.count() == 1
    assert strip(page) == strip(later)


def test_signing_up_with_a_known_address_looks_the_same(client: Client, ada: User) -> None:
    known = sign_up(Client())
    unknown = sign_up(client, "new@openledger.test")
    assert strip(known) == strip(unknown)
    assert "new@openledger.test" in mail.outbox[-1].to
    assert User.objects.filter(email=EMAIL).count() == 1


def test_a_wrong_password_and_an_unknown_address_look_the_same(client: Client, ada: User) -> None:
    known = sign_in(client, EMAIL, "wrong")
    unknown = sign_in(client, "nobody@openledger.test", "wrong")
    assert strip(known) == strip(unknown)
    assert "not correct" in known


def test_asking_for_a_reset_looks_the_same_for_all(client: Client, ada: User) -> None:
    pages = [
        client.post(reverse("account_reset_password"), {"email": email}, follow=True)
        for email in [EMAIL, "nobody@openledger.test"]
    ]
    assert strip(pages[0].content.decode()) == strip(pages[1].content.decode())


def strip(page: str) -> str:
    """Without what differs on every page: tokens and the address that was typed."""
    page = re.sub(r'(value|X-CSRFToken)(": |=)"[^"]*"', "", page)
    return re.sub(r"[\w.]+@openledger\.test", "", page)


def test_a_password_is_reset_by_mail(client: Client, ada: User) -> None:
    client.post(reverse("account_reset_password"), {"email": EMAIL.upper()})
    form = client.get(link_in_mail(), follow=True)
    url = form.redirect_chain[-1][0]
    new = "another horse battery"
    client.post(url, {"password1": new, "password2": new})
    sign_in(client, password=new)
    assert is_in(client)


@pytest.mark.parametrize("password", ["short", "password123", "12345678901"])
def test_a_weak_password_is_refused(client: Client, password: str) -> None:
    sign_up(client, password=password)
    assert User.objects.count() == 0


def test_guessing_is_slowed_down(client: Client, ada: User) -> None:
    for _ in range(5):
        sign_in(client, password="wrong")
    assert "Too many" in sign_in(client)
    assert not is_in(client)


def test_a_second_factor_is_set_up_and_asked_for(client: Client, ada: User) -> None:
    sign_in(client)
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    page = client.get(reverse("mfa_activate_totp"))
    secret = page.context["form"].secret
    code = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
    client.post(reverse("mfa_activate_totp"), {"code": code})
    assert Authenticator.objects.filter(user=ada, type=Authenticator.Type.TOTP).exists()

    second = Client()
    sign_in(second)
    assert not is_in(second)
    answer = second.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert answer.status_code == 200
    assert not is_in(second)


def test_a_passkey_can_be_asked_for(client: Client) -> None:
    answer = client.get(
        reverse("mfa_login_webauthn"), headers={"x-requested-with": "XMLHttpRequest"}
    )
    options = answer.json()["request_options"]["publicKey"]
    assert options["rpId"] == "testserver"
    assert len(options["challenge"]) > 20


OUTSIDE = [
    "account_login",
    "account_signup",
    "account_reset_password",
    "account_reset_password_done",
    "account_email_verification_sent",
    "account_inactive",
]
INSIDE = [
    "account_email",
    "account_change_password",
    "account_reauthenticate",
    "account_logout",
    "mfa_index",
    "mfa_list_webauthn",
    "mfa_add_webauthn",
    "mfa_activate_totp",
    "mfa_generate_recovery_codes",
    "usersessions_list",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_page_before_signing_in_looks_like_the_house(client: Client, name: str) -> None:
    page = client.get(reverse(name)).content.decode()
    assert 'class="site-head"' in page
    assert "Menu:" not in page
    assert "<h1" in page


@pytest.mark.parametrize("name", INSIDE)
def test_a_page_of_the_account_looks_like_the_house(client: Client, ada: User, name: str) -> None:
    sign_in(client)
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    if name == "mfa_generate_recovery_codes":
        Authenticator.objects.create(
            user=ada, type=Authenticator.Type.TOTP, data={"secret": "JBSWY3DPEHPK3PXP"}
        )
    answer = client.get(reverse(name))
    assert answer.status_code == 200
    page = answer.content.decode()
    assert 'class="site-head"' in page
    assert "Menu:" not in page
    assert "<h1" in page


@pytest.mark.parametrize("name", [name for name in INSIDE if name != "account_logout"])
def test_a_stranger_is_sent_to_sign_in(client: Client, name: str) -> None:
    answer = client.get(reverse(name))
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("account_login"))


def test_a_broken_link_says_what_to_do(client: Client) -> None:
    for name, args in [
        ("account_confirm_email", ["broken"]),
        ("account_reset_password_from_key", ["1", "broken-key"]),
    ]:
        try:
            url = reverse(name, args=args)
        except NoReverseMatch:
            url = reverse(name, kwargs={"uidb36": args[0], "key": args[1]})
        assert client.get(url).status_code == 200
