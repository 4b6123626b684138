"""In a real browser: a stake with a contribution, a slash of it, an appeal, and its end."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.urls import reverse

from accounts.models import User
from config.embedded.browser import find_chromium
from datanets.models import Contribution, Datanet, Slash
from datanets.services import contributions, imports, staking
from ledger.models import Account
from tests.ledger.books import OPEN, balance_of, fund

from .conftest import NOON, ROWS, run_tasks

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture
def ready(
    published: Datanet, owner: User, contributor: User, jsonl: Any, settings: Any
) -> Contribution:
    """Checked rows of a Datanet that asks for 2 OPEN, not submitted yet."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.CHAIN_ENABLED = False
    fund(contributor, 10 * OPEN)
    staking.set_stake_amount(datanet=published, amount=2 * OPEN, acting_user=owner, at=NOON)
    made = imports._start(published, jsonl(ROWS), contributor, NOON)
    run_tasks()
    made.refresh_from_db()
    contributions.set_mapping(
        contribution=made, mapping=made.preview["mapping"], acting_user=contributor, at=NOON
    )
    run_tasks()
    return made


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch, live_server: Any) -> Iterator[Any]:
    """A page of a browser of their own, for a person."""
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )

        def go(user: User) -> Any:
            EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
            page = browser.new_context(base_url=live_server.url).new_page()
            page.goto(reverse("account_login"))
            page.get_by_label("Email").fill(user.email)
            page.get_by_label("Password").first.fill("correct horse")
            page.get_by_role("button", name=re.compile("^Sign in")).first.click()
            page.wait_for_url(lambda url: "/login/" not in url)
            return page

        yield go
        browser.close()


def test_a_stake_is_slashed_appealed_and_given_back(
    ready: Contribution, sign_in: Any, contributor: User, reviewer: User, staff: User
) -> None:
    mine = sign_in(contributor)
    mine.goto(ready.get_absolute_url())
    assert "2 OPEN" in mine.locator(".stake-offer").inner_text()
    shoot(mine, "offer")
    mine.get_by_label("I may give these records").check()
    mine.get_by_role("button", name="Stake 2 OPEN and submit").click()
    mine.locator("#stake, [aria-busy]").first.wait_for()
    run_tasks()
    mine.locator("#stake").wait_for()
    shoot(mine, "staked")
    assert balance_of(Account.Kind.USER, contributor.pk) == 8 * OPEN

    theirs = sign_in(reviewer)
    theirs.goto(reverse("datanets:review", args=[ready.datanet.slug]))
    theirs.get_by_role("link", name="Propose a slash").click()
    theirs.get_by_label("What is wrong with it?").select_option("ADVERSARIAL")
    theirs.get_by_label("Evidence").fill("Row 1 tells readers to send money.")
    shoot(theirs, "propose")
    theirs.get_by_role("button", name="Propose the slash").click()
    theirs.get_by_text("is told and may appeal").wait_for()

    slash = Slash.objects.get()
    assert slash.amount == 2 * OPEN
    mine.goto("/people/me/notifications/")
    mine.get_by_text("2 OPEN of your stake are to be slashed").wait_for()
    mine.goto(slash.get_absolute_url())
    mine.get_by_label("Why the slash is wrong").fill("Row 1 warns of those who do.")
    shoot(mine, "appeal")
    mine.get_by_role("button", name="Appeal").click()
    mine.get_by_text("Appealed, to be decided").wait_for()
    assert balance_of(Account.Kind.USER, contributor.pk) == 7 * OPEN

    desk = sign_in(staff)
    desk.goto(reverse("datanets:moderation"))
    desk.get_by_role("link", name="Read and decide").click()
    desk.get_by_label("Statement").fill("It is a warning.")
    shoot(desk, "decide")
    desk.get_by_role("button", name="Overturn: give the bond back").click()
    desk.get_by_text("Overturned on appeal").wait_for()
    shoot(desk, "decided")
    assert balance_of(Account.Kind.USER, contributor.pk) == 8 * OPEN
    mine.goto(reverse("datanets:stakes", args=[ready.datanet.slug]))
    shoot(mine, "stakes")


def shoot(page: Any, name: str) -> None:
    """Pictures for whoever sets a folder; a test needs none."""
    import os

    folder = os.environ.get("STAKING_PICTURES")
    if not folder:
        return
    for width, scheme in ((1280, "light"), (390, "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=f"{folder}/d-{name}-{width}-{scheme}.png", full_page=True)
