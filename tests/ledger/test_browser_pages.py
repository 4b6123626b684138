"""The money pages in a real browser: what axe finds, on a phone, in the dark, by the keyboard."""

import os
import re
from pathlib import Path

import pytest
from allauth.account.models import EmailAddress
from django.urls import reverse
from django.utils import timezone

from accounts.ids import uuid7
from config.embedded.browser import find_chromium
from ledger.models import Account, PayoutChoice
from ledger.services.budgets import set_budget
from ledger.services.deposits import credit_deposit
from ledger.services.holds import Refs
from ledger.services.opening import account_for
from ledger.services.refunds import refund_fee
from ledger.services.relays import choose_payouts, relay_fee
from ledger.services.settlement import Credit, settle_suspense
from tests.ledger import mirror
from tests.ledger.books import (
    FIRST,
    NOON,
    OPEN,
    activate,
    capture,
    hold_for,
    link,
    paid,
    person,
    publish,
)

CHROMIUM = find_chromium()
PASSWORD = "a long password"
TX = mirror.word(0xABCDEF0123456789 << 190)
# Rules of WCAG 2 A and AA; what axe only recommends is no failure.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture
def addresses(settings, deployed):
    """Somebody who spent, earned, and was paid; the addresses of all that shows it."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.CHAIN_EXPLORER_URL = "https://explorer.test"
    user = person("contributor")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    account = account_for(Account.Kind.USER, user.pk)
    mirror.log(mirror.block(10), TX, accountId=mirror.account_word(account), amount=str(9 * OPEN))
    mirror.head(12, final=11)
    deposit = credit_deposit(
        account_id=account.pk, amount=9 * OPEN, chain_id=31337, tx_hash=TX, log_index=0, at=NOON
    )
    hold_for(user, OPEN)
    hold = hold_for(user, OPEN)
    model, datanet = uuid7(), uuid7()
    capture(hold, OPEN // 3, refs=Refs(model=model, completion=hold.cause_id))
    credits = [Credit("contributor", user.pk, 10**9, datanet, model)]
    settle_suspense(completion_id=hold.cause_id, at=NOON, credits=credits)
    wrong = hold_for(user, OPEN)
    capture(wrong, OPEN // 7, refs=Refs(completion=wrong.cause_id))
    staff = person("staff")
    staff.is_staff = True
    staff.save(update_fields=["is_staff"])
    refund_fee(hold=wrong, reason="The answer broke off.", acting_user=staff, at=NOON)
    set_budget(user=user, limit=OPEN, hard_stop=True, acting_user=user, at=timezone.now())
    link(user, FIRST)
    settings.RELAY_GAS_PRICE_WEI = 10**6
    asked = {"claims": PayoutChoice.Claims.ASK, "push": True, "shown_fee": relay_fee()}
    choose_payouts(user=user, **asked, acting_user=user, at=NOON)
    distribution = publish()
    activate(distribution)
    paid(100, 100, tx_hash=mirror.word(0x7C))
    intent = mirror.intent(state="SEEN", nonce=7, tx_hash=mirror.word(0x77))
    mirror.attempt(intent, mirror.word(0x77), nonce=7)
    return [
        reverse("ledger:earnings"),
        reverse("ledger:earnings_entries"),
        reverse("ledger:payout_choices"),
        reverse("ledger:statements"),
        reverse("ledger:statement", args=["2026-11"]),
        reverse("ledger:wallet"),
        reverse("ledger:holds"),
        reverse("serving:completions"),
        reverse("explorer"),
        reverse("ledger:entry", args=[deposit.pk]),
        reverse("ledger:account", args=[account.pk]),
        reverse("ledger:intent", args=[intent.pk]),
        reverse("ledger:transaction", args=[TX]),
        reverse("ledger:block", args=["10"]),
        reverse("ledger:address", args=[FIRST]),
        reverse("ledger:distributions"),
        reverse("ledger:distribution", args=[distribution.pk]),
    ]


@pytest.fixture
def browser(monkeypatch):
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield opened
        opened.close()


def signed_in(browser, live_server, **options):
    page = browser.new_context(base_url=live_server.url, **options).new_page()
    page.goto(reverse("account_login"))
    page.get_by_label("Email").fill("contributor@openledger.test")
    page.get_by_label("Password").first.fill(PASSWORD)
    page.get_by_role("button", name=re.compile("^Sign in")).first.click()
    page.wait_for_url(lambda url: "/login/" not in url)
    return page


def keep(page, address, name):
    """A picture for whoever looks: SCREENSHOTS names the folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        file = address.strip("/").replace("/", "-")[:60]
        page.screenshot(path=Path(folder) / f"{file}-{name}.png", full_page=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wide-light", {"viewport": WIDE, "color_scheme": "light"}),
        ("phone-dark", {"viewport": PHONE, "color_scheme": "dark"}),
    ],
)
def test_nothing_is_out_of_reach(browser, live_server, addresses, name, options):
    """No finding of axe, no error in the console, and nothing wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    page = signed_in(browser, live_server, **options)
    problems, found = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    for address in addresses:
        page.goto(address)
        keep(page, address, name)
        for violation in Axe().run(page, options=RULES).response["violations"]:
            where = [node["target"] for node in violation["nodes"]][:3]
            found.append(f"{address}: {violation['id']} at {where}")
        wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wider > 0:
            found.append(f"{address}: {wider} px wider than the window")
    assert (found, problems) == ([], [])


def test_a_hash_is_copied_by_the_keyboard_and_it_is_said(browser, live_server, addresses):
    page = signed_in(
        browser, live_server, viewport=WIDE, permissions=["clipboard-read", "clipboard-write"]
    )
    page.goto(reverse("ledger:transaction", args=[TX]))
    button = page.get_by_role("button", name=re.compile("^Copy the transaction hash")).first
    before = button.bounding_box()

    button.focus()
    page.keyboard.press("Enter")

    page.locator("#announce", has_text="Copied.").wait_for(state="attached")
    assert page.evaluate("navigator.clipboard.readText()") == TX
    assert button.bounding_box() == before
