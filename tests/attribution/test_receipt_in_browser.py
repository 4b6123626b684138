"""The receipt's page in a real browser: "Verify this" checks it there, and it fits a phone."""

import os

import pytest
from django.test import Client

from config.embedded.browser import find_chromium

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]


@pytest.fixture
def browser(monkeypatch):
    from playwright.sync_api import sync_playwright

    # Playwright runs an event loop in this thread, in which Django then suspects itself.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(find_chromium()),
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        yield started
        started.close()


def signed_in(browser, live_server, user, **view):
    session = Client()
    session.force_login(user)
    context = browser.new_context(**view)
    value = session.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": value, "url": live_server.url}])
    return context.new_page()


def test_a_reader_verifies_a_receipt_in_the_browser(live_server, indexed, browser, tmp_path):
    receipt = indexed.receipt()
    page = signed_in(browser, live_server, indexed.payer, viewport={"width": 1280, "height": 900})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda line: complaints.append(line.text) if line.type == "error" else None,
    )
    page.goto(live_server.url + receipt.get_absolute_url())
    page.get_by_role("button", name="Verify this").click()
    page.get_by_text("This receipt holds").wait_for(timeout=20_000)
    assert page.locator("#verdict").get_attribute("data-holds") == "yes"
    assert page.locator("#verdict li").count() == 8
    folder = os.environ.get("SCREENSHOTS", str(tmp_path))
    page.screenshot(path=f"{folder}/receipt.png", full_page=True)
    page.goto(f"{live_server.url}/receipts/")
    panel = f"/receipts/for/{receipt.completion_id}/panel/"
    page.evaluate("address => htmx.ajax('GET', address, '#content')", panel)
    page.locator('[data-state="DONE"]').wait_for()
    page.screenshot(path=f"{folder}/receipt-panel.png", full_page=True)
    page.goto(f"{live_server.url}/receipts/")
    page.screenshot(path=f"{folder}/receipts.png", full_page=True)
    page.goto(f"{live_server.url}/indexes/{receipt.public['index_root']}/")
    page.screenshot(path=f"{folder}/index.png", full_page=True)
    assert complaints == []


def test_the_page_fits_a_phone(live_server, indexed, browser, tmp_path):
    receipt = indexed.receipt()
    page = signed_in(browser, live_server, indexed.payer, viewport={"width": 390, "height": 844})
    page.goto(live_server.url + receipt.get_absolute_url())
    folder = os.environ.get("SCREENSHOTS", str(tmp_path))
    page.screenshot(path=f"{folder}/receipt-phone.png", full_page=True)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
