"""The staking pages: seen by all, acted on with a wallet, and a person's whole way on a chain."""

import re

import pytest
from allauth.account.models import EmailAddress
from django.urls import reverse
from django.utils import timezone

from accounts.ids import uuid7
from config.embedded.browser import find_chromium
from ledger.calldata import id_word
from ledger.models import Account, PoolFunding, PoolMirror
from ledger.services import pools
from ledger.services.holds import Refs
from ledger.services.opening import account_for
from ledger.services.poolfunding import fund_pools
from tests.chain_fixtures import ALICE, BOB, OPEN, chain, chain_settings, deployed_chain, worker
from tests.ledger.books import capture, hold_for, link, person
from tests.ledger.test_stake_pools import FLEXIBLE, LOCKED

__all__ = ["chain", "chain_settings", "deployed_chain", "worker"]
pytestmark = pytest.mark.django_db(transaction=True)
CHROMIUM = find_chromium()
FLEXIBLE_URL = f"/staking/0x{FLEXIBLE.hex()}/"
API = "/api/v1/staking"


@pytest.fixture(autouse=True)
def no_chain(settings):
    settings.STAKERS_FUND_MINIMUM_WEI = 1
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


@pytest.fixture
def staker(worker):
    user = person("staker")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    link(user, ALICE)
    return user


def mirrored(worker):
    worker.index()
    while pools.mirror():
        pass


def test_without_a_chain_the_page_says_that_the_money_waits(client, settings, db):
    settings.CHAIN_ENABLED = False
    page = client.get("/staking/").content.decode()
    assert "no staking contract on a chain yet" in page
    answer = client.get(f"{API}/pools/0x{FLEXIBLE.hex()}/call/", {"action": "withdraw"})
    assert (answer.status_code, answer.json()["code"]) == (400, "waiting_for_chain")


def test_everybody_sees_pools_and_their_own_positions_alone(client, worker, staker):
    worker.chain.send(ALICE, "StakePools", "stake", FLEXIBLE, value=2 * OPEN)
    worker.chain.send(BOB, "StakePools", "stake", LOCKED, value=OPEN)
    mirrored(worker)
    page = client.get("/staking/").content.decode()
    assert "a cooldown of 7 days" in page
    assert "a term of 90 days" in page
    assert "My positions" not in page
    assert "<strong>3 OPEN</strong>" in page
    pool = client.get(FLEXIBLE_URL).content.decode()
    assert "Sign in" in pool
    assert ALICE not in pool
    assert client.post("/staking/").status_code == 405
    assert client.post(FLEXIBLE_URL).status_code == 405
    assert client.get(f"{API}/positions/").status_code in (401, 403)
    client.force_login(person("stranger"))
    assert client.get(f"{API}/positions/").json() == []
    assert "None of your" in client.get("/staking/").content.decode()
    client.force_login(staker)
    (mine,) = client.get(f"{API}/positions/").json()
    assert (mine["address"], mine["staked"]) == (ALICE, str(2 * OPEN))
    assert ALICE in client.get(FLEXIBLE_URL).content.decode()
    told = client.get(f"{API}/solvency/").json()
    assert (told["principal"], told["checked_at"]) == (str(3 * OPEN), None)
    assert client.get(f"{API}/pools/").json()["count"] == 2
    assert client.get(f"{API}/pools/0x{FLEXIBLE.hex()}/slashes/").json()["count"] == 0


@pytest.mark.parametrize("pool_id", ["0x12", "0x" + "0" * 64, "0x" + id_word(uuid7()).hex(), "x"])
def test_a_pool_of_nothing_is_not_found(client, worker, pool_id):
    assert client.get(f"/staking/{pool_id}/").status_code == 404
    assert client.get(f"{API}/pools/{pool_id}/").status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"action": "drain"},
        {"action": "stake"},
        {"action": "stake", "amount": "0"},
        {"action": "stake", "amount": "-1"},
        {"action": "unstake", "amount": "1.5"},
        {"action": "unstake", "amount": str(2**128)},
        {"action": "claim", "address": "0x12"},
    ],
)
def test_a_call_that_cannot_be_is_refused_with_a_code(client, worker, query):
    answer = client.get(f"{API}/pools/0x{FLEXIBLE.hex()}/call/", query)
    assert answer.status_code == 400
    assert {"code", "message"} <= set(answer.json())


def test_the_call_is_what_the_contract_takes(client, worker):
    chain = worker.chain
    url = f"{API}/pools/0x{FLEXIBLE.hex()}/call/"
    for query in (
        {"action": "stake", "amount": str(OPEN)},
        {"action": "unstake", "amount": str(OPEN // 2)},
    ):
        call = client.get(url, query).json()["call"]
        data = bytes.fromhex(call["data"][2:])
        sent = chain.submit(ALICE, call["to"], data, value=int(call["value"], 16))
        chain.mine()
        assert chain.client.receipt(sent).succeeded
    staked, cooling, *_ = chain.read("StakePools", "position", FLEXIBLE, ALICE)
    assert (staked, cooling) == (OPEN // 2, OPEN // 2)


def test_a_contract_that_is_short_is_told_on_the_page(client, worker):
    mirrored(worker)
    PoolMirror.objects.update(checked_at=timezone.now(), checked_held=1, checked_owed=2)
    page = client.get("/staking/").content.decode()
    assert "SHORT" in page


WALLET = """
window.ethereum = {request: async ({method, params}) => {
  if (method === "eth_requestAccounts") return ["%s"];
  const answer = await window.node(method, params || []);
  if (answer && answer.error) throw new Error(answer.error);
  return answer;
}};
"""


def node(chain):
    """The chain as a wallet's node: what is sent is mined at once."""

    def request(method, params):
        answer = chain.client.rpc(method, *params)
        if method == "eth_sendTransaction":
            chain.mine()
        return answer

    return request


@pytest.fixture
def page(monkeypatch, staker, worker, live_server):
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        found = browser.new_page(base_url=live_server.url)
        found.route(re.compile("local-wallet.js"), lambda route: route.abort())
        found.expose_function("node", node(worker.chain))
        found.add_init_script(WALLET % ALICE)
        found.goto(reverse("account_login"))
        found.get_by_label("Email").fill(staker.email)
        found.get_by_label("Password").first.fill("a long password")
        found.get_by_role("button", name=re.compile("^Sign in")).first.click()
        found.wait_for_url(lambda url: "/login/" not in url)
        yield found
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_person_stakes_a_fee_comes_in_rewards_flow_and_are_collected(page, worker, staker):
    mirrored(worker)
    page.goto(FLEXIBLE_URL)
    page.get_by_label("Amount in OPEN").fill("2.5")
    page.get_by_role("button", name="Stake", exact=True).click()
    decoded = page.locator(".decoded").inner_text()
    assert "stake(bytes32)" in decoded
    assert "2.5 OPEN" in decoded
    page.get_by_role("button", name="Sign in my wallet").click()
    page.get_by_text("Waiting for confirmations").wait_for()
    mirrored(worker)
    page.goto(FLEXIBLE_URL)
    assert "2.5 OPEN" in page.locator("[data-staking]").inner_text()

    page.get_by_label("Amount in OPEN").fill("1")
    page.evaluate("other => { window.ethereum = {request: async () => [other]}; }", BOB)
    page.get_by_role("button", name="Take out").click()
    assert "on another account" in page.locator("[role=alert]").inner_text()

    payer = person("payer")
    account = account_for(Account.Kind.USER, payer.pk)
    worker.chain.send(BOB, "Gateway", "deposit", id_word(account.pk), value=OPEN)
    worker.run()
    hold = hold_for(payer, OPEN)
    capture(hold, OPEN, refs=Refs(model=uuid7(), completion=hold.cause_id))
    (sent,) = fund_pools(locked_weight_bps=15_000, at=timezone.now())
    worker.run(rounds=8)
    assert PoolFunding.objects.get().state == "PAID"
    worker.chain.warp(86_400)
    mirrored(worker)

    page.goto(FLEXIBLE_URL)
    assert "Stakers" in page.locator("#fundings + .table-wrap").inner_text()
    before = worker.chain.balance(ALICE)
    page.get_by_role("button", name="Collect").click()
    page.get_by_role("button", name="Sign in my wallet").click()
    page.get_by_text("Waiting for confirmations").wait_for()
    gained = worker.chain.balance(ALICE) - before
    # A day of the seven over which the funding streams, less the gas.
    assert sent.amount // 8 < gained < sent.amount // 6
    mirrored(worker)
    page.goto(FLEXIBLE_URL)
    assert "Rewards collected" in page.content()
    pools.note_solvency(held=3 * OPEN, expected=3 * OPEN, at=timezone.now())
    shoot(page, FLEXIBLE_URL, "pool")
    shoot(page, "/staking/", "staking")


def shoot(page, url, name):
    """Pictures for whoever sets a folder; a test needs none."""
    import os

    folder = os.environ.get("STAKING_PICTURES")
    if not folder:
        return
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(url)
            page.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png", full_page=True)
