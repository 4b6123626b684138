"""The main job in a browser: from a file of records to OPEN in a wallet, by its five people."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import steps
from tests.browser.conftest import Cast

NAME = "Walked answers"
MODEL = "Walked model"
CONTRIBUTOR = "Carla Contributor"
QUESTIONS = (
    "What does `calendar.isleap()` do in Python?",
    "What is the Python module `shutil` for?",
    "What does `calendar.monthrange()` do in Python?",
    "What does `shutil.copyfile()` do in Python?",
    "What does `shutil.move()` do in Python?",
    "What does `calendar.weekday()` do in Python?",
    "What is `calendar.Calendar` in Python?",
    "What does `shutil.ignore_patterns()` do in Python?",
    "What does `shutil.make_archive()` do in Python?",
    "What does `calendar.leapdays()` do in Python?",
    "What does `shutil.copytree()` do in Python?",
    "What is `shutil.SameFileError` in Python?",
)

pytestmark = pytest.mark.timeout(1500)


def chain_balance(cast: Cast, address: str) -> int:
    reply = httpx.post(
        cast.rpc_url,
        json={"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": [address, "latest"]},
    )
    return int(reply.json()["result"], 16)


def test_a_file_becomes_open_in_a_wallet(cast: Cast, tmp_path: Path, picture: Any) -> None:
    slug = _records(cast, tmp_path, picture)
    _model(cast, picture)
    _answer(cast, picture)
    _payout(cast, slug, picture)
    _vote(cast, picture)
    assert cast.problems == []


def _records(cast: Cast, folder: Path, picture: Any) -> str:
    """Steps 1 to 3: one brings, one decides, staff approve, the owner freezes."""
    owner, contributor = cast.page("owner"), cast.page("contributor")
    slug = steps.create_datanet(owner, NAME)
    steps.give_role(owner, slug, "reviewer@openledger.test", "REVIEWER")
    steps.give_role(owner, slug, "contributor@openledger.test", "CONTRIBUTOR")
    steps.give_role(owner, slug, "builder@openledger.test", "BUILDER")
    steps.upload(contributor, slug, steps.records_file(folder, steps.OWN))
    picture(contributor, "contribute")
    steps.check_and_submit(contributor)
    assert contributor.get_by_text("refused, 1 of them as exact copies").count()
    picture(contributor, "contribution")
    steps.upload(owner, slug, steps.records_file(folder, steps.NAMED))
    steps.check_and_submit(owner, contributor_column="package")
    cast.page("reviewer").goto(f"/datanets/{slug}/review/")
    picture(cast.page("reviewer"), "review")
    steps.review(cast.page("reviewer"), slug)
    steps.ask_for_publication(owner, slug)
    steps.approve(cast.page("staff"), NAME)
    steps.publish_version(owner, slug)
    owner.goto(f"/datanets/{slug}/")
    picture(owner, "datanet")
    return slug


def _model(cast: Cast, picture: Any) -> None:
    """Step 4, and step 5 as far as the deployment."""
    builder = cast.page("builder")
    steps.train(builder, NAME, MODEL)
    picture(builder, "wizard")
    steps.start_run(builder)
    picture(builder, "run")
    slug = steps.publish_model(builder, MODEL)
    picture(builder, "model")
    steps.link_wallet(builder)
    steps.get_open(builder, "3")
    steps.deposit(builder, "2")
    picture(builder, "wallet")
    steps.deploy(builder, MODEL)
    builder.goto(f"/playground/?model={slug}")


def _answer(cast: Cast, picture: Any) -> None:
    """Steps 5 to 7: a paid answer, its receipt, the proof in the reader's browser."""
    builder = cast.page("builder")
    turn = _credited(builder)
    picture(builder, "playground")
    turn.get_by_role("link", name=re.compile("receipt", re.IGNORECASE)).first.click()
    builder.wait_for_url(re.compile(r"/receipts/"))
    verify = builder.get_by_role("button", name=re.compile("verify", re.IGNORECASE))
    verify.first.click()
    builder.get_by_text(re.compile("matches|proven|holds", re.IGNORECASE)).first.wait_for()
    picture(builder, "receipt")


def _credited(page: Any) -> Any:
    """Ask until an answer is credited to the contributor; not every one draws on her records."""
    for question in QUESTIONS:
        turn = steps.ask(page, question)
        panel = turn.locator("[data-state=DONE]")
        panel.wait_for(timeout=steps.LONG_MS)
        if panel.locator(".attribution-shares").get_by_text(CONTRIBUTOR).count():
            return turn
    raise AssertionError(f"None of {len(QUESTIONS)} answers was credited to {CONTRIBUTOR}.")


def _payout(cast: Cast, slug: str, picture: Any) -> None:
    """Steps 8 and 9: claimed by the relayer to the wei, and by the wallet less its gas."""
    contributor = cast.page("contributor")
    address = steps.link_wallet(contributor)
    steps.again_until("claimable earnings", lambda: steps.claimable(contributor) > 0)
    picture(contributor, "earnings")
    before, claim = chain_balance(cast, address), _claimable_wei(contributor)
    contributor.get_by_role("button", name="Claim for me, without gas").click()
    steps.again_until(
        "the claim in the wallet", lambda: chain_balance(cast, address) == before + claim
    )

    builder = cast.page("builder")
    address = steps.link_wallet(builder)
    steps.again_until("the builder's earnings", lambda: steps.claimable(builder) > 0)
    before, claim = chain_balance(cast, address), _claimable_wei(builder)
    builder.get_by_role("button", name="Claim with my wallet").click()
    steps.sign(builder.locator("[data-payout]").first)
    steps.again_until("the wallet's claim", lambda: chain_balance(cast, address) != before)
    after = chain_balance(cast, address)
    assert after < before + claim
    steps.again_until("the booked claim", lambda: steps.claimable(builder) == 0)


def _claimable_wei(page: Any) -> int:
    whole, _, part = page.locator(".payout strong").first.inner_text().split()[0].partition(".")
    return int(whole) * 10**18 + int(part.ljust(18, "0"))


def _vote(cast: Cast, picture: Any) -> None:
    """Step 10: wrap, delegate, propose, vote, queue, execute; the next answer is split by it."""
    holder = cast.page("holder")
    address = steps.link_wallet(holder)
    steps.wrap(holder, "1000", address)
    steps.propose_split(holder, {"stakers": "19", "contributors": "51"})
    picture(holder, "proposal")
    steps.carry_through(holder)
    holder.goto("/governance/parameters/")
    steps.again_until("the new split", lambda: steps.shows_now(holder, "Version 2 divides"))
    assert holder.get_by_text("51 %").count()
    picture(holder, "parameters")
    builder = cast.page("builder")
    builder.goto("/playground/")
    turn = steps.ask(builder, QUESTIONS[0])
    turn.get_by_role("link", name="Receipt").click(timeout=steps.LONG_MS)
    builder.get_by_role("link", name="parameters, version 2").wait_for()
