"""In a real browser: a wallet is linked and lets in, and so does a passkey."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.core.cache import cache
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from config.embedded.browser import find_chromium
from tests.accounts.test_ethereum import ADDRESS, KEY, sign

CHROMIUM = find_chromium()
EMAIL = "ada@openledger.test"
PASSWORD = "correct horse battery"

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture
def ada(settings: Settings) -> User:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.CHAIN_ID = 31337
    cache.clear()
    user = User.objects.create_user(EMAIL, PASSWORD)
    EmailAddress.objects.create(user=user, email=EMAIL, verified=True, primary=True)
    return user


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A page of headless Chromium; the database may be asked while its loop runs."""
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser.new_page()
        browser.close()


class Wallet:
    """An EIP-1193 wallet that signs with a known key and starts on another chain."""

    def __init__(self) -> None:
        self.chain = "0x1"
        self.declines = False

    def request(self, method: str, params: list[Any] | None = None) -> Any:
        if method == "eth_requestAccounts":
            return [ADDRESS.lower()]
        if method == "eth_chainId":
            return self.chain
        if method == "wallet_switchEthereumChain":
            assert params
            self.chain = params[0]["chainId"]
            return None
        assert method == "personal_sign"
        assert params
        assert params[1] == ADDRESS
        return None if self.declines else sign(KEY, bytes.fromhex(params[0][2:]).decode())

    def plug_into(self, page: Any) -> None:
        page.expose_function("askWallet", self.request)
        page.add_init_script(
            """window.ethereum = {request: async ({method, params}) => {
                const answer = await window.askWallet(method, params);
                if (method === "personal_sign" && answer === null) {
                    throw {code: 4001, message: "User rejected the request."};
                }
                return answer;
            }};"""
        )


def sign_in(page: Any, server: LiveServer) -> None:
    page.goto(f"{server.url}/accounts/login/?next=/people/me/wallets/")
    page.fill("[name=login]", EMAIL)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/people/me/wallets/")


def sign_out(page: Any) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in").wait_for()


def test_a_wallet_is_linked_after_switching_chain_and_then_lets_in(
    page: Any, live_server: LiveServer, ada: User
) -> None:
    wallet = Wallet()
    wallet.plug_into(page)
    sign_in(page, live_server)
    page.get_by_role("button", name="Link a wallet").click()
    page.get_by_text("PAID TO", exact=True).wait_for()
    assert wallet.chain == "0x7a69"
    assert ada.wallets.get().address == ADDRESS

    sign_out(page)
    page.goto(f"{live_server.url}/accounts/login/?next=/people/me/keys/")
    page.get_by_role("button", name="Sign in with a wallet").click()
    page.wait_for_url("**/people/me/keys/")


def test_declining_in_the_wallet_changes_nothing_and_says_so(
    page: Any, live_server: LiveServer, ada: User
) -> None:
    wallet = Wallet()
    wallet.declines = True
    wallet.plug_into(page)
    sign_in(page, live_server)
    page.get_by_role("button", name="Link a wallet").click()
    page.get_by_text("You declined in your wallet.").wait_for()
    assert ada.wallets.count() == 0


def test_without_a_wallet_the_page_says_what_to_do(page: Any, live_server: LiveServer) -> None:
    page.goto(f"{live_server.url}/accounts/login/")
    page.get_by_role("button", name="Sign in with a wallet").click()
    page.get_by_text("No wallet was found in this browser.").wait_for()


def test_a_passkey_is_added_and_then_lets_in(page: Any, live_server: LiveServer, ada: User) -> None:
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    devtools.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/accounts/2fa/webauthn/add/")
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url("**/2fa/webauthn/add/")
    page.fill("[name=name]", "laptop")
    page.check("[name=passwordless]")
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url("**/2fa/recovery-codes/")
    assert Authenticator.objects.filter(user=ada, type=Authenticator.Type.WEBAUTHN).exists()

    sign_out(page)
    page.goto(f"{live_server.url}/accounts/login/?next=/people/me/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url("**/people/me/")
