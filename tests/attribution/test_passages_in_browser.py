"""Passages marked in the answer, and the file hashed by the browser, in a real browser."""

import os

import pytest

from accounts.blobs import put_bytes
from config.embedded.browser import find_chromium
from datanets.models import Contribution
from modelfactory.training.prompts import load_tokenizer, render_prompt
from serving.models import Completion, Deployment
from tests.attribution.test_receipt_in_browser import browser, signed_in
from tests.attribution.world import NOON
from tests.modelfactory.world import STARTER

__all__ = ["browser"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]
ANSWER = (
    "The door 3 is a door of the house. 🚪 So they say, and the window 5 is a window of the house."
)
PROMPT_IDS = render_prompt(
    [{"role": "user", "content": "What is door number 3?"}], load_tokenizer(STARTER)
)
FILE = b'{"text": "what alice once uploaded"}\n'


def completion_of(attribution, world):
    deployment = Deployment.objects.create(
        name="run",
        base_model=world.base,
        model=world.model,
        owner=world.builder,
        state="LIVE",
        input_price=1,
        output_price=1,
        live_at=NOON,
    )
    return Completion.objects.create(
        id=attribution.completion_id,
        deployment=deployment,
        payer=world.payer,
        kind="CHAT",
        state="SUCCEEDED",
        messages=[{"role": "user", "content": "What is door number 3?"}],
        prompt_ids=PROMPT_IDS,
        answer=ANSWER,
        prompt_tokens=1,
        input_price=1,
        output_price=1,
        fee=1,
        highest_fee=1,
        split={},
        parameter_version=1,
        entry_id=attribution.pk,
        deadline=NOON,
        finished_at=NOON,
        sampling={"max_tokens": 50, "temperature": 0},
    )


def test_a_payer_sees_the_passages_marked_and_a_contributor_drops_a_file(
    live_server, indexed, browser, tmp_path
):
    receipt = indexed.receipt(answer=ANSWER)
    completion = completion_of(receipt.attribution, indexed)
    folder = os.environ.get("SCREENSHOTS", str(tmp_path))
    page = signed_in(browser, live_server, indexed.payer, viewport={"width": 1280, "height": 900})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(live_server.url + completion.get_absolute_url())
    page.locator("mark.passage").first.wait_for(timeout=20_000)
    marked = page.locator("mark.passage").all_text_contents()
    assert marked == [one.text for one in receipt.passages.all()]
    assert "door" in page.locator(".pieces").text_content()
    assert page.locator("mark.piece").count() > 0
    # The answer reads as before but for the numbers of its passages.
    page.locator(".passage__number").first.click()
    assert page.url.endswith(f"#passage-{receipt.passages.first().pk}")
    page.screenshot(path=f"{folder}/passages-wide.png", full_page=True)
    # The next answer of a page that is open already, as in the playground.
    page.evaluate(
        """([address, answer]) => {
          const shown = document.querySelector("[data-answer]");
          delete shown.dataset.marked;
          shown.textContent = answer;
          document.querySelector(".attribution-panel").replaceChildren();
          htmx.ajax("GET", address, ".attribution-panel");
        }""",
        [f"/receipts/for/{completion.pk}/panel/", ANSWER],
    )
    page.locator("mark.passage").first.wait_for(timeout=20_000)
    assert page.locator("mark.passage").all_text_contents() == marked

    Contribution.objects.filter(submitter=indexed.alice).update(file=put_bytes(FILE, "x/jsonl"))
    phone = signed_in(
        browser,
        live_server,
        indexed.alice,
        viewport={"width": 390, "height": 844},
        color_scheme="dark",
    )
    phone.on("pageerror", lambda error: complaints.append(str(error)))
    posted = []
    phone.on(
        "request", lambda request: posted.append(request) if request.method == "POST" else None
    )
    phone.goto(f"{live_server.url}/verify/file/")
    dropped = {"name": "rows.jsonl", "mimeType": "text/plain", "buffer": FILE}
    phone.set_input_files("#file", files=[dropped])
    phone.get_by_text("12 records").first.wait_for(timeout=20_000)
    assert posted == []
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.screenshot(path=f"{folder}/by-file-narrow-dark.png", full_page=True)
    phone.goto(live_server.url + receipt.get_absolute_url())
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.screenshot(path=f"{folder}/receipt-narrow-dark.png", full_page=True)
    assert complaints == []
