"""In a real browser: depositing and claiming with a wallet, and what is said when it fails."""

import json
import re

import pytest
from allauth.account.models import EmailAddress
from django.urls import reverse

from config.embedded.browser import find_chromium
from ledger.models import Claim, PayoutChoice
from ledger.reading import claim_refusals
from ledger.services.claims import claim_proof
from tests.ledger import mirror
from tests.ledger.books import FIRST, NOON, SECOND, activate, earn, link, paid, person, publish

CHROMIUM = find_chromium()
PASSWORD = "a long password"
HASH = "0x" + "ab" * 32

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

# A wallet that answers from `window.answers` and keeps what it was asked in `window.asked`.
WALLET = """
window.asked = [];
window.answers = %s;
window.ethereum = {request: async ({method, params}) => {
  window.asked.push([method, params || []]);
  const answer = window.answers[method];
  if (answer && answer.code) throw answer;
  if (method === "wallet_addEthereumChain") delete window.answers.wallet_switchEthereumChain;
  if (method === "wallet_switchEthereumChain" && !window.answers.stays) {
    window.answers.eth_chainId = params[0].chainId;
  }
  return answer === undefined ? null : answer;
}};
"""
WORKING = {
    "eth_chainId": "0x7a69",
    "eth_requestAccounts": [FIRST],
    "eth_sendTransaction": HASH,
    "eth_getTransactionReceipt": {"status": "0x1", "blockNumber": "0x10"},
}


@pytest.fixture
def earner(settings, deployed):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.CHAIN_PUBLIC_RPC_URL = "http://127.0.0.1:8545"
    user = person("contributor")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    link(user, FIRST)
    earn(user, 10**18)
    activate(publish())
    return user


@pytest.fixture
def visit(monkeypatch, earner, live_server):
    """Open a page as the earner, with a wallet of the given answers (None for no wallet)."""
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(base_url=live_server.url)
        # The page's own wallet for the local chain is not what is tried here.
        page.route(re.compile("local-wallet.js"), lambda route: route.abort())

        def go(name, answers):
            if answers is not None:
                page.add_init_script(WALLET % json.dumps(answers))
            page.goto(reverse("account_login"))
            page.get_by_label("Email").fill(earner.email)
            page.get_by_label("Password").first.fill(PASSWORD)
            page.get_by_role("button", name=re.compile("^Sign in")).first.click()
            page.wait_for_url(lambda url: "/login/" not in url)
            page.goto(reverse(f"ledger:{name}"))
            return page

        yield go
        browser.close()


def start_claim(page):
    page.get_by_role("button", name="Claim with my wallet").click()
    page.get_by_role("button", name="Sign in my wallet").click()


def alert(page):
    return page.locator("[role=alert]").inner_text()


def test_a_claim_shows_what_is_signed_sends_it_and_waits_until_it_is_booked(visit):
    page = visit("earnings", WORKING)
    page.get_by_role("button", name="Claim with my wallet").click()
    decoded = page.locator(".decoded").inner_text()
    assert "claim(address,uint256,bytes32[])" in decoded
    assert "1 OPEN" in decoded

    page.get_by_role("button", name="Sign in my wallet").click()
    page.get_by_text("In block 16. Waiting for confirmations.").wait_for()
    method, params = page.evaluate("window.asked.find(([m]) => m === 'eth_sendTransaction')")
    ready = claim_proof(FIRST)
    assert method == "eth_sendTransaction"
    assert params[0]["data"] == "0x" + ready.calldata.hex()
    assert params[0]["to"] == ready.distribution.distributor
    paid(10**18, 10**18, at=NOON)

    page.locator("[data-claim-state=PAID]").wait_for()
    assert Claim.objects.get().state == Claim.State.PAID


def test_who_declines_is_told_that_nothing_was_sent(visit):
    page = visit("earnings", WORKING | {"eth_sendTransaction": {"code": 4001}})

    start_claim(page)

    assert alert(page) == "You declined in your wallet. Nothing was sent."
    assert page.get_by_role("button", name="Claim with my wallet").is_enabled()


def test_a_wallet_on_another_chain_that_does_not_know_ours_is_asked_to_add_it(visit):
    strange = {"eth_chainId": "0x1", "wallet_switchEthereumChain": {"code": 4902}}
    page = visit("earnings", WORKING | strange)

    start_claim(page)

    page.get_by_text("Waiting for confirmations").wait_for()
    asked = dict(page.evaluate("window.asked"))
    chain = asked["wallet_addEthereumChain"][0]
    assert chain["chainId"] == "0x7a69"
    assert chain["nativeCurrency"] == {"name": "OPEN", "symbol": "OPEN", "decimals": 18}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            {"eth_sendTransaction": {"code": -32000, "message": "insufficient funds for gas"}},
            "has not enough OPEN",
        ),
        (
            {"eth_getTransactionReceipt": {"status": "0x0", "blockNumber": "0x10"}},
            "The chain refused the transaction",
        ),
        (
            {
                "eth_estimateGas": "0x5208",
                "eth_getTransactionReceipt": {
                    "status": "0x0",
                    "blockNumber": "0x10",
                    "gasUsed": hex(21_000 * 5 // 4 + 5_000),
                },
            },
            "ran out of gas",
        ),
        (
            {"eth_estimateGas": {"code": 3, "message": "execution reverted", "data": "0x1f2a2005"}},
            "The contract would refuse this now",
        ),
        ({"eth_chainId": "0x1", "stays": True}, "Your wallet is on another network"),
        ({"eth_chainId": "0x1", "wallet_switchEthereumChain": {"code": 4001}}, "You declined"),
    ],
)
def test_what_went_wrong_is_said_in_words(visit, answers, words):
    page = visit("earnings", WORKING | answers)

    start_claim(page)

    page.locator("[role=alert]").wait_for()
    assert words in alert(page)


def test_without_a_wallet_in_the_browser_it_says_so(visit):
    page = visit("earnings", None)

    page.get_by_role("button", name="Claim with my wallet").click()

    page.locator("[role=alert]").wait_for()
    assert "No wallet was found" in alert(page)


def test_another_account_than_the_leafs_is_told_who_is_paid_and_who_pays_the_gas(visit):
    page = visit("earnings", WORKING | {"eth_requestAccounts": [SECOND]})

    page.get_by_role("button", name="Claim with my wallet").click()

    page.locator(".notice--warn", has_text="whoever sends it").wait_for()
    decoded = page.locator(".decoded").inner_text()
    assert FIRST in decoded
    assert SECOND in decoded
    page.get_by_role("button", name="Sign in my wallet").click()
    page.get_by_text("In block 16").wait_for()
    sent = dict(page.evaluate("window.asked"))["eth_sendTransaction"][0]
    assert sent["from"] == SECOND


def test_a_claim_names_its_step_from_recorded_to_final(visit):
    page = visit("earnings", WORKING)
    step = page.locator("[data-transaction-status] [aria-current=step]")
    start_claim(page)
    page.get_by_text("In block 16. Waiting").wait_for()
    assert step.inner_text() == "Submitted"

    mirror.log(mirror.block(16), HASH, contract="RewardDistributor", event="Claimed")
    mirror.head(17, safe=15, final=10)
    page.get_by_text("In block 16, not final yet.").wait_for()
    mirror.head(18, safe=16, final=10)
    page.get_by_text("which is safe and not final yet").wait_for()
    assert step.inner_text() == "Safe"
    mirror.head(19, safe=19, final=17)
    page.get_by_text("The ledger books it in a moment").wait_for()
    assert step.inner_text() == "Final"
    paid(10**18, 10**18, at=NOON)

    page.locator("[data-claim-state=PAID]").wait_for()
    assert page.evaluate("localStorage.length") == 0


def test_a_page_that_was_closed_goes_on_telling_and_can_begin_again(visit):
    page = visit("earnings", WORKING)
    start_claim(page)
    page.get_by_text("In block 16. Waiting").wait_for()

    page.reload()

    page.get_by_text(f"Submitted as {HASH}").wait_for()
    button = page.get_by_role("button", name="Claim with my wallet")
    assert button.is_disabled()
    page.get_by_role("button", name=re.compile("begin again")).click()
    page.wait_for_function("localStorage.length === 0")
    assert button.is_enabled()


def test_a_proof_that_is_of_yesterday_is_not_signed(visit, earner):
    page = visit("earnings", WORKING)
    # As if the root changed between the proof and the look at it.
    page.route(
        re.compile("/payout-checks/"),
        lambda route: route.fulfill(
            status=400,
            content_type="application/json",
            body=json.dumps({"code": "expired_proof", "message": "This proof is of epoch 1."}),
        ),
    )

    page.get_by_role("button", name="Claim with my wallet").click()

    page.locator("[role=alert]").wait_for()
    assert alert(page) == "This proof is of epoch 1."
    assert page.evaluate("window.asked") == []


def test_what_the_contract_refuses_is_said_in_its_words(visit):
    claimed = next(key for key, words in claim_refusals().items() if "claimed already" in words)
    refusal = {"code": 3, "message": "execution reverted", "data": claimed + "00" * 96}
    page = visit("earnings", WORKING | {"eth_estimateGas": refusal})

    start_claim(page)

    page.locator("[role=alert]").wait_for()
    assert "All of it was claimed already. Reload the page." in alert(page)


def test_payouts_are_chosen_by_the_keyboard_at_the_fee_that_is_shown(visit, earner, settings):
    settings.RELAY_GAS_PRICE_WEI = 10**7
    page = visit("payout_choices", None)
    assert page.locator("[data-figure=relay-fee]").inner_text() == "0.0000013 OPEN"

    page.get_by_label("I claim with my own wallet").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.get_by_label("Send small earnings").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")

    page.get_by_text("From your next earnings on, we claim for you.").wait_for()
    choice = PayoutChoice.objects.get(user=earner)
    assert (choice.claims, choice.push, choice.maximum_fee) == ("AUTO", True, 130_000 * 10**7)
    assert page.get_by_label("Claim for me as soon as").is_checked()


def test_a_deposit_sends_the_very_wei_that_were_typed(visit):
    page = visit("wallet", WORKING)
    page.locator("#deposit").get_by_label("Amount in OPEN").fill("1.000000000000000001")

    page.get_by_role("button", name="Deposit", exact=True).click()

    page.get_by_text("are in a block").wait_for()
    sent = dict(page.evaluate("window.asked"))["eth_sendTransaction"][0]
    assert int(sent["value"], 16) == 10**18 + 1
    assert sent["data"].startswith("0x")


def test_a_deposit_of_no_amount_asks_the_wallet_nothing(visit):
    page = visit("wallet", WORKING)
    page.locator("#deposit").get_by_label("Amount in OPEN").fill("1e3")

    page.get_by_role("button", name="Deposit", exact=True).click()

    assert "Write the amount in OPEN" in alert(page)
    assert page.evaluate("window.asked") == []
