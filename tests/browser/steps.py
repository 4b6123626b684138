"""What people do on the pages, one function a deed; names on buttons are those that they read."""

import json
import re
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from config.sample.docstrings import standard_library

LONG_MS = 240_000
TITLE = "One more part in a hundred for contributors"
# The sample has no records of these: a copy of one of its records would pay who was first.
OWN = ("calendar", "shutil")
NAMED = ("textwrap", "zipfile")


def records_file(folder: Path, packages: Sequence[str]) -> Path:
    """Real questions and answers about `packages`, with two rows that are no good."""
    pairs = [pair for package in packages for pair in standard_library(package, 16)]
    rows = [
        {"question": pair.question, "answer": pair.answer, "package": pair.contributor}
        for pair in pairs
    ]
    rows.append({"question": "Who wrote this row?", "answer": "", "package": "json"})
    rows.append(rows[0])
    path = folder / f"{'-and-'.join(packages)}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def again_until(what: str, look: Callable[[], bool], seconds: float = 120) -> None:
    """Ask `look` each second: for what a page shows only after another look at it."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
        time.sleep(1)


# ------------------------------------------------------------------ data


def create_datanet(page: Any, name: str) -> str:
    page.goto("/datanets/new/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Summary").fill("What parts of the standard library are for.")
    page.get_by_label("Description").fill("Questions **and** answers out of docstrings.")
    page.get_by_label("Rules").fill("An answer is one sentence from the documentation.")
    page.get_by_label("Tags").fill("python, walk")
    page.get_by_label("Licence").select_option("PSF-2.0")
    page.get_by_role("button", name="Create the draft").click()
    page.wait_for_url(re.compile(r"/datanets/(?!new)[\w-]+/contribute/$"))
    return str(page.url).split("/")[-3]


def give_role(page: Any, slug: str, email: str, role: str) -> None:
    page.goto(f"/datanets/{slug}/people/")
    page.locator("form.card input:not([type=hidden])").first.fill(email)
    page.locator("form.card select").select_option(role)
    page.get_by_role("button", name="Give the role").click()
    page.get_by_text(role).first.wait_for()


def upload(page: Any, slug: str, path: Path) -> None:
    page.goto(f"/datanets/{slug}/contribute/")
    page.locator("input[type=file]").set_input_files(path)
    page.wait_for_url(re.compile(r"/contributions/"), timeout=LONG_MS)
    page.get_by_role("button", name="Check every row").wait_for()


def check_and_submit(page: Any, contributor_column: str = "") -> None:
    if contributor_column:
        page.locator("select[name=contributor]").select_option(contributor_column)
    page.get_by_role("button", name="Check every row").click()
    page.get_by_label("I may give these records").check(timeout=LONG_MS)
    page.get_by_role("button", name="Submit the good rows").click()
    page.get_by_text("SUBMITTED", exact=True).wait_for(timeout=LONG_MS)


def review(page: Any, slug: str) -> None:
    """Reject one record with a reason, by mouse, take it back by key, then accept what waits."""
    page.goto(f"/datanets/{slug}/review/")
    page.locator("form[data-verdict] select").select_option(index=1)
    page.get_by_role("button", name="Reject R").click()
    page.get_by_role("button", name="Undo").wait_for()
    page.keyboard.press("u")
    page.get_by_role("button", name="Accept A").wait_for()
    page.keyboard.press("a")
    page.get_by_text("1 of").wait_for()
    page.get_by_text("Decide all").click()
    page.get_by_label("I have looked at enough").check()
    page.get_by_role("button", name="Accept all").click()
    page.get_by_text("Nothing waits for your verdict").wait_for(timeout=LONG_MS)


def ask_for_publication(page: Any, slug: str) -> None:
    page.goto(f"/datanets/{slug}/")
    page.get_by_role("button", name=re.compile("publication|publish", re.IGNORECASE)).click()
    page.get_by_text("IN_REVIEW").wait_for()


def approve(page: Any, name: str) -> None:
    page.goto("/staff/moderation/")
    page.get_by_role("button", name=f"Publish {name}").click()
    page.goto("/datanets/")
    page.get_by_role("link", name=name).wait_for()


def publish_version(page: Any, slug: str) -> None:
    page.goto(f"/datanets/{slug}/versions/")
    page.get_by_role("button", name="Publish the version").click()
    page.locator("#versions table a", has_text="1").first.wait_for(timeout=LONG_MS)


# ------------------------------------------------------------------ model


def train(page: Any, datanet: str, name: str) -> None:
    page.goto("/wizard/")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Next: data").click()
    page.get_by_label(f"{datanet} v1").check()
    page.get_by_role("button", name="Next: base model").click()
    page.get_by_role("button", name="Next: settings").click()
    page.get_by_role("button", name="Next: review").click()
    page.get_by_role("heading", name="Who will be credited").wait_for()


def start_run(page: Any) -> None:
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url(re.compile(r"/runs/"))
    page.get_by_text("SUCCEEDED").first.wait_for(timeout=2 * LONG_MS)


def publish_model(page: Any, name: str) -> str:
    page.goto("/models/")
    page.get_by_role("link", name=name).first.click()
    page.wait_for_url(re.compile(r"/models/[\w-]+/$"))
    slug = str(page.url).rstrip("/").rsplit("/", 1)[1]
    page.goto(f"/models/{slug}/publish/")
    page.get_by_role("button", name="Publish").click()
    page.wait_for_url(re.compile(r"/models/[\w-]+/$"))
    return slug


def get_open(page: Any, amount: str) -> None:
    before = _spendable(page)
    page.locator("#faucet input[name=amount]").fill(amount)
    page.get_by_role("button", name="Get OPEN").click()
    again_until("the faucet's OPEN", lambda: _spendable(page) >= before + Decimal(amount))


def deposit(page: Any, amount: str) -> None:
    """With the wallet, through the Gateway contract."""
    before = _spendable(page)
    page.locator("[data-deposit-amount]").fill(amount)
    page.locator("[data-deposit-start]").click()
    page.locator("#deposit").get_by_text("are in a block").wait_for()
    again_until("the wallet's deposit", lambda: _spendable(page) >= before + Decimal(amount))


def sign(box: Any) -> None:
    """Read the decoded call, send it, and wait for its block."""
    box.locator("[data-transaction-status] button").first.click()
    box.get_by_text(re.compile("In (a )?block")).first.wait_for()


def deploy(page: Any, name: str) -> None:
    page.goto("/deployments/new/")
    model = page.locator("select[name=what]")
    model.select_option(label=model.locator("option", has_text=name).first.inner_text())
    page.get_by_role("button", name="Deploy").click()
    page.wait_for_url(re.compile(r"/deployments/(?!new)[\w-]+/$"))
    again_until("the deployment", lambda: shows_now(page, "LIVE"))


def ask(page: Any, question: str) -> Any:
    """Ask the tuned model beside its base; returns the new turn of the tuned one, which stands
    behind those that the page remembers."""
    turns = page.locator(".pane").last.locator(".turn")
    before = turns.count()
    page.locator("[name=max_tokens]").fill("24")
    page.locator("[name=question]").fill(question)
    page.get_by_text(re.compile("at most", re.IGNORECASE)).first.wait_for()
    page.get_by_role("button", name="Ask").click()
    tuned = turns.nth(before)
    tuned.locator(".turn__cost", has_text="OPEN").wait_for(timeout=LONG_MS)
    return tuned


# ------------------------------------------------------------------ money


def link_wallet(page: Any) -> str:
    page.goto("/people/me/wallets/")
    if not page.locator("article .mono").count():
        page.get_by_role("button", name="Link a wallet").click()
        page.locator("article .mono").first.wait_for()
    return str(page.locator("article .mono").first.inner_text()).split()[0]


def claimable(page: Any) -> Decimal:
    page.goto("/earnings/")
    figure = page.locator(".payout strong")
    return Decimal(figure.first.inner_text().split()[0] if figure.count() else 0)


def _spendable(page: Any) -> Decimal:
    page.goto("/wallet/")
    text = page.locator(".stat__value").first.inner_text()
    return Decimal(text.replace(",", "").split()[0])


# ------------------------------------------------------------------ rules


def wrap(page: Any, amount: str, address: str) -> None:
    """OPEN of the wallet becomes GOPEN that votes for itself."""
    page.goto("/governance/power/")
    page.locator("#id_wrap-amount").fill(amount)
    page.locator("#id_wrap-delegate").fill(address)
    page.get_by_role("button", name="Wrap", exact=True).click()
    sign(page.locator("form", has=page.locator("#id_wrap-amount")))
    again_until("the wrapped votes", lambda: shows_now(page, "itself"))


def propose_split(page: Any, percent: dict[str, str]) -> None:
    page.goto("/governance/propose/split/")
    for part, value in percent.items():
        page.locator(f"[name={part}]").fill(value)
    page.locator("[name=title]").fill(TITLE)
    page.locator("[name=text]").fill("They bring what the answers are made of.")
    page.get_by_role("button", name="Continue").click()
    sign(page.locator("#sign"))
    page.goto("/governance/")
    proposal = page.get_by_role("link", name=TITLE).first
    again_until("the proposal", lambda: _offered(page, proposal))
    proposal.click()
    page.locator("#act").wait_for()


def carry_through(page: Any) -> None:
    """Vote, queue and execute as soon as the dates allow; seconds on the local chain."""
    for button in ("Vote", "Queue", "Execute"):
        act = page.locator("#act").get_by_role("button", name=button, exact=True)
        again_until(f"the button {button}", lambda act=act: _offered(page, act))
        if button == "Vote":
            page.locator("#act").get_by_label("For", exact=True).check()
        act.click()
        sign(page.locator("#act form[data-holder-form]"))
    again_until("the execution", lambda: shows_now(page, "EXECUTED"))


def _offered(page: Any, button: Any) -> bool:
    page.reload()
    return bool(button.count())


def shows_now(page: Any, text: str) -> bool:
    """Whether the page shows `text` after a reload."""
    page.reload()
    return bool(page.get_by_text(text).count())
