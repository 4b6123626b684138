"""The chat page in a browser: two models side by side, what it costs, and stopping."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import httpx
import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect, sync_playwright

from config.embedded.browser import find_chromium
from ledger.models import Account
from serving.models import Completion, Deployment
from serving.services import deployments
from tests.ledger.books import OPEN, balance_of
from tests.serving.live.conftest import ended, until


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    # Playwright runs an event loop in this thread, in which Django then suspects itself.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(chromium), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield started
        started.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def signed_in(client_person) -> str:
    """The session of somebody who can pay."""
    session = Client()
    session.force_login(client_person)
    return session.cookies["sessionid"].value


@pytest.fixture
def page(request, house, live, signed_in, browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    context.add_cookies([{"name": "sessionid", "value": signed_in, "url": house.address}])
    made = context.new_page()
    faults: list[str] = []
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.on(
        "console",
        lambda message: faults.append(message.text) if message.type == "error" else None,
    )
    made.goto(f"{house.address}/playground/")
    yield made
    shots = os.environ.get("SCREENSHOTS")
    if shots:
        made.screenshot(path=str(Path(shots) / f"{request.node.name}.png"), full_page=True)
    context.close()
    # A refusal's status is reported as an error too; the page tells it in words.
    assert [fault for fault in faults if "Failed to load resource" not in fault] == []


def test_a_question_is_priced_asked_of_both_and_paid(page, client_person):
    expect(page.locator(".pane")).to_have_count(2)
    page.get_by_label("Most tokens").fill("16")
    page.get_by_label("Your question").fill("What does list.append do?")
    quote = page.locator("#quote")
    expect(quote).to_contain_text("at most")
    expect(quote).to_contain_text("up to 16 written")
    page.get_by_role("button", name="Ask", exact=False).click()
    costs = page.locator(".turn__cost")
    expect(costs).to_have_count(2)
    for pane in range(2):
        expect(costs.nth(pane)).to_contain_text("OPEN for", timeout=20_000)
    rows = {row.deployment.name: row for row in Completion.objects.select_related("deployment")}
    assert set(rows) == {"starter", "builder-tuned"}
    answers = page.locator(".turn__answer")
    for pane, name in enumerate(["starter", "builder-tuned"]):
        shown = answers.nth(pane).evaluate("element => element.textContent")
        assert shown == rows[name].answer
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - sum(
        row.fee for row in rows.values()
    )


def test_a_second_question_carries_the_conversation_on_and_each_is_quoted_first(page):
    sent = []
    page.on("request", lambda request: sent.append(request.url.rstrip("/").rpartition("/")[2]))
    page.get_by_label("Beside it").select_option("")
    page.get_by_label("Most tokens").fill("4")
    for number in range(2):
        page.get_by_label("Your question").fill(f"Question {number}")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".turn__cost").nth(number)).to_contain_text("OPEN for", timeout=20_000)
    second = Completion.objects.order_by("id").last()
    assert [message["role"] for message in second.messages] == ["user", "assistant", "user"]
    order = [name for name, _ in groupby(name for name in sent if name in ("quote", "ask"))]
    assert order == ["quote", "ask"] * 2


def test_a_conversation_outlives_a_reload_and_goes_on(page, house):
    """An answer that was under way is told as such, and is no part of what is asked next."""
    page.get_by_label("Beside it").select_option("")
    page.get_by_label("Most tokens").fill("4")
    page.get_by_label("Your question").fill("The first question")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".turn__cost")).to_contain_text("OPEN for", timeout=20_000)
    answer = page.locator(".turn__answer").inner_text()
    page.get_by_label("Your question").fill("A draft")
    page.goto(f"{house.address}/completions/")
    page.goto(f"{house.address}/playground/")
    expect(page.locator(".turn__answer")).to_have_text(answer)
    expect(page.locator(".turn__cost")).to_contain_text("OPEN for")
    expect(page.get_by_label("Your question")).to_have_value("A draft")
    expect(page.locator(".pane")).to_have_count(1)

    page.get_by_label("Most tokens").fill("450")
    page.get_by_label("Your question").fill("Left alone")
    page.evaluate(RELOAD_AT_ONCE)
    page.get_by_role("button", name="Ask", exact=False).click()
    left = page.locator(".turn__cost").nth(1)
    expect(left).to_contain_text("before this answer was whole. · details", timeout=20_000)
    page.get_by_label("Most tokens").fill("4")
    page.get_by_label("Your question").fill("Going on")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".turn__cost").nth(2)).to_contain_text("OPEN for", timeout=20_000)
    asked = [one["content"] for one in Completion.objects.order_by("id").last().messages]
    assert (asked[0], asked[-1]) == ("The first question", "Going on")
    page.get_by_role("button", name="New conversation").click()
    page.reload()
    expect(page.locator("#quote")).to_contain_text("Type a question")
    expect(page.locator(".turn")).to_have_count(0)


# Reloads with the first text of an answer.
RELOAD_AT_ONCE = """() => new MutationObserver((_, seen) => {
  if (![...document.querySelectorAll(".turn__answer")].at(-1)?.textContent) return;
  seen.disconnect();
  location.reload();
}).observe(document.getElementById("panes"), {subtree: true, childList: true, characterData: true})
"""

# Presses Stop with the first text of an answer: the engine needs a fraction of a second for all.
STOP_AT_ONCE = """() => new MutationObserver((_, seen) => {
  if (![...document.querySelectorAll(".turn__answer")].at(-1)?.textContent) return;
  seen.disconnect();
  document.getElementById("stop").click();
}).observe(document.getElementById("panes"), {subtree: true, childList: true, characterData: true})
"""


def test_stopping_ends_the_answer_and_its_cost(page):
    """450 tokens take half a second, so a browser that was slow to stop may ask again."""
    page.get_by_label("Beside it").select_option("")
    page.get_by_label("Most tokens").fill("450")
    for _ in range(5):
        page.get_by_label("Your question").fill("Go on and on.")
        page.evaluate(STOP_AT_ONCE)
        page.get_by_role("button", name="Ask", exact=False).click()
        cost = page.locator(".turn__cost").last
        expect(cost).to_contain_text("OPEN for", timeout=20_000)
        if "Stopped" in cost.inner_text():
            break
    expect(cost).to_contain_text("Stopped")
    done = ended(Completion.objects.order_by("id").last().pk)
    assert done.state == "CANCELLED"
    assert 0 < done.completion_tokens < 450


def test_a_question_that_is_too_long_is_told_before_and_after_sending(page):
    page.get_by_label("Your question").fill("word " * 600)
    expect(page.locator("#quote")).to_contain_text("Shorten it")
    page.get_by_role("button", name="Ask", exact=False).click()
    expect(page.get_by_role("alert").last).to_contain_text("Shorten it")
    expect(page.get_by_label("Your question")).to_have_value(re.compile("word word"))
    assert not Completion.objects.exists()


def test_answers_are_shown_as_text_never_as_markup(page):
    Deployment.objects.filter(name="builder-tuned").update(input_price=0, output_price=0)
    page.get_by_label("Your question").fill("<img src=x onerror=alert(1)>")
    page.get_by_label("Most tokens").fill("2")
    page.get_by_role("button", name="Ask", exact=False).click()
    expect(page.locator(".turn__question").first).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator(".turn img").count() == 0
    expect(page.locator(".turn__cost").first).to_contain_text("OPEN for", timeout=20_000)


def test_the_stream_of_the_page_speaks_of_start_pieces_and_cost(house, live, signed_in):
    with httpx.Client(base_url=house.address, cookies={"sessionid": signed_in}) as session:
        session.get("/playground/")
        token = session.cookies["csrftoken"]
        answer = session.post(
            "/playground/ask/",
            json={
                "model": live.name,
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 3,
            },
            headers={"X-CSRFToken": token, "Origin": house.address},
            timeout=30,
        )
    assert answer.headers["content-type"].startswith("text/event-stream")
    kinds = re.findall(r'"type":"(\w+)"', answer.text)
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert set(kinds[1:-1]) <= {"piece"}


def test_adapters_are_blended_by_keyboard_priced_and_paid(page, live, make_model, builder, house):
    second = deployments.deploy(
        model=make_model("second", seed=2), acting_user=builder, at=timezone.now()
    )
    until(lambda: Deployment.objects.get(pk=second.pk).state == "LIVE", 60)
    page.reload()
    page.get_by_label("Beside it").select_option("")
    page.locator("#blend > summary").focus()
    page.keyboard.press("Enter")
    page.get_by_label("tuned", exact=True).fill("0.7")
    page.get_by_label("second", exact=True).fill("-0.3")
    page.get_by_label("Method").select_option("ties")
    expect(page.locator(".pane__name")).to_contain_text("-0.3 × second + 0.7 × tuned")
    code = page.locator("#blend-code")
    expect(code).to_be_hidden()
    page.get_by_text("Get code", exact=True).click()
    expect(code).to_contain_text('"weight": -0.3')
    expect(code).to_contain_text('"method": "ties"')
    page.get_by_label("Most tokens").fill("8")
    page.get_by_label("Your question").fill("What does list.append do?")
    expect(page.locator("#quote")).to_contain_text("at most")
    page.get_by_role("button", name="Ask", exact=False).click()
    expect(page.locator(".turn__cost")).to_contain_text("OPEN for", timeout=20_000)
    (made,) = Completion.objects.all()
    assert made.state == "SUCCEEDED"
    assert [one["weight_ppm"] for one in made.merge["parents"]] == [-300_000, 700_000]
    assert made.merge["density_ppm"] == 500_000
