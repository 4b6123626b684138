"""Each page of a person: who may see it, who may change it, and what strangers get."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts import api_keys, notifications, pages
from accounts.models import ApiKey, AuditEvent, Notification, User, Wallet
from accounts.services.people import unclaimed_contributor

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
OTHER_ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture(autouse=True)
def fresh(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@openledger.test", "correct horse battery", handle="ada")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob@openledger.test", "correct horse battery", handle="bob")


@pytest.fixture
def as_ada(ada: User) -> Client:
    client = Client()
    client.force_login(ada)
    return client


@pytest.fixture
def as_bob(bob: User) -> Client:
    client = Client()
    client.force_login(bob)
    return client


@pytest.fixture
def key(ada: User) -> ApiKey:
    return api_keys.create_key(user=ada, name="laptop", acting_user=ada, at=NOON)[0]


@pytest.fixture
def wallet(ada: User) -> Wallet:
    return Wallet.objects.create(user=ada, address=ADDRESS, is_primary=True)


@pytest.fixture
def notice(ada: User) -> Notification:
    made = notifications.notify(
        user=ada, kind="test", title="A record was accepted", url="/datanets/", at=NOON
    )
    assert made
    return made


OWN_PAGES = ["me", "export", "keys", "notifications", "wallets"]


@pytest.mark.parametrize("name", OWN_PAGES)
def test_an_own_page_opens_for_its_person_alone(name: str, as_ada: Client, client: Client) -> None:
    url = reverse(f"people:{name}")
    assert as_ada.get(url).status_code == 200
    stranger = client.get(url)
    assert stranger.status_code == 302
    assert stranger["Location"] == f"{reverse('account_login')}?next={url}"


@pytest.mark.parametrize("name", OWN_PAGES)
def test_an_own_page_refuses_other_methods(name: str, as_ada: Client) -> None:
    assert as_ada.delete(reverse(f"people:{name}")).status_code == 405


def test_the_actions_refuse_get(
    as_ada: Client, key: ApiKey, wallet: Wallet, notice: Notification
) -> None:
    for url in [
        reverse("people:revoke_key", args=[key.pk]),
        reverse("people:unlink_wallet", args=[wallet.pk]),
        reverse("people:primary_wallet", args=[wallet.pk]),
        reverse("people:open_notification", args=[notice.pk]),
        reverse("people:read_all"),
    ]:
        assert as_ada.get(url).status_code == 405


def test_strangers_change_nothing_of_others(
    as_bob: Client, client: Client, key: ApiKey, wallet: Wallet, notice: Notification
) -> None:
    for name, row in [
        ("revoke_key", key),
        ("unlink_wallet", wallet),
        ("primary_wallet", wallet),
        ("open_notification", notice),
    ]:
        url = reverse(f"people:{name}", args=[row.pk])
        assert as_bob.post(url).status_code == 404
        assert client.post(url).status_code == 302
    assert as_bob.post(reverse("people:read_all")).status_code == 302
    assert ApiKey.objects.get().revoked_at is None
    assert Wallet.objects.count() == 1
    assert Notification.objects.get().read_at is None


def test_the_public_page_shows_name_since_and_wallets_but_no_email(
    client: Client, ada: User, wallet: Wallet
) -> None:
    page = client.get(reverse("people:person", args=[ada.handle])).content.decode()
    assert ADDRESS in page
    assert "@ada" in page
    assert "openledger.test" not in page


def test_the_page_is_found_by_id(client: Client, ada: User) -> None:
    answer = client.get(pages.url("user", ada.pk))
    assert answer["Location"] == reverse("people:person", args=["ada"])


def test_closed_and_unknown_people_have_no_page(client: Client, ada: User) -> None:
    User.objects.update(is_active=False)
    assert client.get(reverse("people:person", args=[ada.handle])).status_code == 404
    assert client.get(reverse("people:person", args=["nobody"])).status_code == 404


def test_a_named_contributor_has_a_page_that_says_so(client: Client, ada: User) -> None:
    unclaimed_contributor(namespace="neuro", name="Notes", acting_user=ada, at=NOON)
    assert "UNCLAIMED" in client.get("/people/neuro-notes/").content.decode()


@pytest.mark.parametrize("wish", ["me", "id", "sign-in"])
def test_no_handle_hides_behind_a_page_of_ours(wish: str) -> None:
    assert User.objects.free_handle(wish) == f"{wish}-2"


def test_a_name_is_changed_and_written_down(as_ada: Client, ada: User) -> None:
    as_ada.post(reverse("people:me"), {"display_name": " Ada <b>Lovelace</b> "})
    ada.refresh_from_db()
    assert ada.display_name == "Ada <b>Lovelace</b>"
    assert AuditEvent.objects.get(verb="user.profile_changed").actor == ada
    page = as_ada.get(reverse("people:person", args=[ada.handle])).content.decode()
    assert "<b>Lovelace" not in page


def test_a_handle_is_changed_and_written_down(as_ada: Client, ada: User) -> None:
    answer = as_ada.post(reverse("people:me"), {"handle": "countess", "display_name": "Ada"})
    assert answer["Location"] == reverse("people:me")
    assert as_ada.get("/people/countess/").status_code == 200
    assert as_ada.get("/people/ada/").status_code == 404
    kept = AuditEvent.objects.get(verb="user.profile_changed")
    assert kept.data == {"handle": ["ada", "countess"]}


@pytest.mark.parametrize("wish", ["bob", "sign-in", "a", "Ada", "a b", "a--b", "-ada", "x" * 41])
def test_a_handle_that_is_taken_or_no_handle_is_refused(
    as_ada: Client, ada: User, bob: User, wish: str
) -> None:
    answer = as_ada.post(reverse("people:me"), {"handle": wish, "display_name": "New"})
    assert "handle" in answer.context["form"].errors
    ada.refresh_from_db()
    assert (ada.handle, ada.display_name) == ("ada", "")
    assert ada.handle in answer.content.decode()


def test_a_handle_taken_in_the_meantime_is_refused(
    as_ada: Client, ada: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(User.objects, "is_handle_taken", lambda handle: False)
    answer = as_ada.post(reverse("people:me"), {"handle": "bob"})
    assert "handle" in answer.context["form"].errors
    assert not AuditEvent.objects.filter(verb="user.profile_changed").exists()


def test_a_key_is_shown_once(as_ada: Client, ada: User) -> None:
    url = reverse("people:keys")
    answer = as_ada.post(url, {"name": "laptop", "days": "30", "scopes": ["ASK"]})
    secret = answer.context["secret"]
    assert secret in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert secret not in as_ada.get(url).content.decode()
    made = api_keys.authenticate(secret, at=ApiKey.objects.get().created_at)
    assert made
    assert made.user == ada
    assert made.expires_at


@pytest.mark.parametrize(
    "body", [{"name": "", "days": "30"}, {"name": "x" * 81}, {"name": "x", "days": "9999"}]
)
def test_a_key_needs_a_name_and_a_known_lifetime(as_ada: Client, body: dict[str, str]) -> None:
    answer = as_ada.post(reverse("people:keys"), body)
    assert answer.context["form"].errors
    assert ApiKey.objects.count() == 0


def test_a_revoked_key_opens_nothing(as_ada: Client, key: ApiKey) -> None:
    as_ada.post(reverse("people:revoke_key", args=[key.pk]))
    assert ApiKey.objects.get().revoked_at
    assert "REVOKED" in as_ada.get(reverse("people:keys")).content.decode()


def test_notices_are_counted_opened_and_read(as_ada: Client, notice: Notification) -> None:
    page = as_ada.get(reverse("people:notifications"))
    assert page.context["unread_notifications"] == 1
    assert "A record was accepted" in page.content.decode()
    answer = as_ada.post(reverse("people:open_notification", args=[notice.pk]))
    assert answer["Location"] == "/datanets/"
    assert as_ada.get(reverse("people:notifications")).context["unread_notifications"] == 0


def test_all_notices_are_read_at_once(as_ada: Client, notice: Notification) -> None:
    as_ada.post(reverse("people:read_all"))
    assert Notification.objects.get().read_at


@pytest.mark.parametrize("url", ["https://evil.test/", "//evil.test/", "javascript:alert(1)", ""])
def test_a_notice_never_leads_off_the_site(as_ada: Client, notice: Notification, url: str) -> None:
    Notification.objects.update(url=url)
    answer = as_ada.post(reverse("people:open_notification", args=[notice.pk]))
    assert answer["Location"] == reverse("people:notifications")


def test_the_export_holds_what_is_known_and_no_secret(
    as_ada: Client, ada: User, key: ApiKey, wallet: Wallet, notice: Notification
) -> None:
    answer = as_ada.get(reverse("people:export"))
    assert answer["Content-Disposition"] == 'attachment; filename="openledger-ada.json"'
    data = json.loads(answer.content)
    assert data["person"]["email"] == "ada@openledger.test"
    assert data["wallets"] == [ADDRESS]
    assert data["api_keys"][0]["name"] == "laptop"
    assert data["notifications"][0]["title"] == "A record was accepted"
    assert data["actions"][0]["verb"] == "api_key.created"
    assert key.secret_sha256 not in answer.content.decode()
    assert ada.password not in answer.content.decode()
