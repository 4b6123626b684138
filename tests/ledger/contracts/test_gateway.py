"""The Gateway credits deposits by account, and pays each batch once whatever recipients do."""

from __future__ import annotations

import pytest

from ledger.chain import artifacts
from tests.chain_fixtures import ALICE, BOB, GUARDIAN, OPEN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import BURNS, MODEL, POOLS, REFUSES, Hostile, as_timelock

ACCOUNT = b"\7" * 32
BATCH = b"\1" * 32
FRESH = "0x00000000000000000000000000000000000A11cE"


def deposit(chain: Chain, amount: int) -> None:
    chain.send(ALICE, "Gateway", "deposit", ACCOUNT, value=amount)


def test_a_deposit_is_told_with_its_account_and_sender(chain: Chain) -> None:
    receipt = chain.send(ALICE, "Gateway", "deposit", ACCOUNT, value=OPEN)
    assert chain.events(receipt) == [
        ("Deposited", {"accountId": ACCOUNT, "from": ALICE, "amount": OPEN})
    ]


def test_a_deposit_of_nothing_or_for_nobody_is_refused(chain: Chain) -> None:
    assert chain.reverts(ALICE, "Gateway", "deposit", ACCOUNT) == "ZeroAmount()"
    assert chain.reverts(ALICE, "Gateway", "deposit", b"\0" * 32, value=1) == "NoAccount()"


def test_open_sent_without_an_account_bounces(chain: Chain) -> None:
    chain.transfer(ALICE, chain.address("Gateway"), OPEN)
    assert chain.balance(chain.address("Gateway")) == 0


def test_a_batch_is_paid_and_its_number_is_spent(chain: Chain) -> None:
    deposit(chain, 5 * OPEN)
    before = chain.balance(BOB)
    chain.send(OPERATOR, "Gateway", "withdraw", BATCH, [(FRESH, OPEN), (BOB, 2 * OPEN)])
    assert (chain.balance(FRESH), chain.balance(BOB) - before) == (OPEN, 2 * OPEN)
    why = chain.reverts(OPERATOR, "Gateway", "withdraw", BATCH, [(FRESH, OPEN)])
    assert why.startswith("AlreadyPaid")


@pytest.mark.parametrize("code", [REFUSES, BURNS])
def test_a_payment_that_is_refused_stays_and_the_others_are_made(chain: Chain, code: str) -> None:
    deposit(chain, 5 * OPEN)
    bad = "0x0000000000000000000000000000000000000bad"
    chain.install_code(bad, code)
    receipt = chain.send(OPERATOR, "Gateway", "withdraw", BATCH, [(bad, 2 * OPEN), (FRESH, OPEN)])
    events = chain.events(receipt)
    assert [name for name, _ in events] == ["Refused", "Withdrawn", "BatchPaid"]
    assert events[-1][1]["refused"] == 2 * OPEN
    assert chain.balance(chain.address("Gateway")) == 4 * OPEN
    assert chain.balance(FRESH) == OPEN


def test_three_hundred_fresh_recipients_fit_a_transaction_and_one_more_is_refused(
    chain: Chain,
) -> None:
    deposit(chain, OPEN)
    people = [(f"0x{number:040x}", 1) for number in range(0x10000, 0x10000 + 301)]
    receipt = chain.send(OPERATOR, "Gateway", "withdraw", BATCH, people[:300])
    assert receipt.gas_used < 16_777_216
    why = chain.reverts(OPERATOR, "Gateway", "withdraw", b"\2" * 32, people)
    assert why == "BatchSize(size=301, limit=300)"


def test_recipients_that_burn_their_gas_cannot_make_a_full_batch_too_large(chain: Chain) -> None:
    deposit(chain, OPEN)
    bad = [f"0x{number:040x}" for number in range(0x20000, 0x20000 + 300)]
    for address in bad:
        chain.install_code(address, BURNS)
    payments = [(address, 1) for address in bad]
    receipt = chain.send(OPERATOR, "Gateway", "withdraw", BATCH, payments)
    assert receipt.gas_used < 16_777_216


def test_starving_a_recipient_of_gas_reverts_the_whole_batch(chain: Chain) -> None:
    deposit(chain, OPEN)
    data = artifacts.load("Gateway").encode_call("withdraw", BATCH, [(FRESH, 1)] * 3)
    tx_hash = chain.submit(OPERATOR, chain.address("Gateway"), data, gas=120_000)
    chain.mine()
    receipt = chain.client.receipt(tx_hash)
    assert receipt is not None
    assert not receipt.succeeded
    assert chain.read("Gateway", "done", BATCH) is False


def test_a_batch_beyond_what_is_held_or_with_an_empty_payment_is_refused(chain: Chain) -> None:
    deposit(chain, OPEN)
    why = chain.reverts(OPERATOR, "Gateway", "withdraw", BATCH, [(BOB, OPEN + 1)])
    assert why.startswith("NotEnough")
    assert chain.reverts(OPERATOR, "Gateway", "withdraw", BATCH, [(BOB, 0)]) == "ZeroAmount()"
    assert chain.reverts(OPERATOR, "Gateway", "withdraw", BATCH, []).startswith("BatchSize")


@pytest.mark.parametrize("sender", [ALICE, GUARDIAN, STRANGER])
def test_only_the_operator_moves_funds(chain: Chain, sender: str) -> None:
    deposit(chain, OPEN)
    for call in (
        ("withdraw", BATCH, [(sender, 1)]),
        ("fundDistributor", BATCH, 1),
        ("fundStakers", BATCH, MODEL, 1),
    ):
        why = chain.reverts(sender, "Gateway", *call)
        assert why.startswith("AccessControlUnauthorizedAccount")


def test_earnings_go_to_the_distributor_once_a_batch(chain: Chain) -> None:
    deposit(chain, 3 * OPEN)
    receipt = chain.send(OPERATOR, "Gateway", "fundDistributor", BATCH, 2 * OPEN)
    assert [name for name, _ in chain.events(receipt)] == ["DistributorFunded", "Funded"]
    assert chain.balance(chain.address("RewardDistributor")) == 2 * OPEN
    why = chain.reverts(OPERATOR, "Gateway", "fundDistributor", BATCH, 1)
    assert why.startswith("AlreadyPaid")
    why = chain.reverts(OPERATOR, "Gateway", "fundDistributor", b"\2" * 32, 2 * OPEN)
    assert why.startswith("NotEnough")


def test_the_stakers_part_goes_to_a_pool_once_a_batch(chain: Chain) -> None:
    deposit(chain, 5 * OPEN)
    receipt = chain.send(OPERATOR, "Gateway", "fundStakers", BATCH, MODEL, 2 * OPEN)
    events = chain.events(receipt)
    assert [name for name, _ in events] == ["StakersFunded", "PoolOpened", "RewardsFunded"]
    assert events[0][1] == {
        "batchId": BATCH,
        "poolId": MODEL,
        "stakePools": chain.address(POOLS),
        "amount": 2 * OPEN,
    }
    assert events[2][1]["from"] == chain.address("Gateway")
    assert chain.read(POOLS, "solvency") == (2 * OPEN, 0, 2 * OPEN, 0)
    for batch, pool, amount, why in (
        (BATCH, MODEL, 1, "AlreadyPaid"),
        (b"\2" * 32, MODEL, 4 * OPEN, "NotEnough"),
        (b"\2" * 32, MODEL, 0, "ZeroAmount"),
        # The pools' own word, not ours: nothing was moved.
        (b"\2" * 32, b"\1" * 32, 1, "UnknownPool"),
    ):
        found = chain.reverts(OPERATOR, "Gateway", "fundStakers", batch, pool, amount)
        assert found.startswith(why)


def test_a_batch_number_is_spent_whatever_it_paid(chain: Chain) -> None:
    deposit(chain, 5 * OPEN)
    chain.send(OPERATOR, "Gateway", "fundStakers", BATCH, MODEL, 1)
    for call in (("fundDistributor", BATCH, 1), ("withdraw", BATCH, [(BOB, 1)])):
        assert chain.reverts(OPERATOR, "Gateway", *call).startswith("AlreadyPaid")


def test_the_timelock_names_other_pools(chain: Chain) -> None:
    deposit(chain, OPEN)
    timelock, other = as_timelock(chain), Hostile(chain, ALICE)
    receipt = chain.send(timelock, "Gateway", "setStakePools", other.address)
    assert chain.events(receipt) == [
        ("StakePoolsChanged", {"previous": chain.address(POOLS), "stakePools": other.address})
    ]
    # It has no such function; a call to an address without code would vanish into it.
    for place in (other.address, STRANGER):
        chain.send(timelock, "Gateway", "setStakePools", place)
        why = chain.reverts(OPERATOR, "Gateway", "fundStakers", BATCH, MODEL, 1)
        assert why == "reverted without a reason"


def test_the_guardian_stops_payments_and_deposits_go_on(chain: Chain) -> None:
    deposit(chain, OPEN)
    chain.send(GUARDIAN, "Gateway", "setPaused", True)
    why = chain.reverts(OPERATOR, "Gateway", "withdraw", BATCH, [(BOB, 1)])
    assert why == "PaymentsPaused()"
    deposit(chain, OPEN)
    why = chain.reverts(GUARDIAN, "Gateway", "setPaused", False)
    assert why.startswith("AccessControlUnauthorizedAccount")
    chain.send(as_timelock(chain), "Gateway", "setPaused", False)
    chain.send(OPERATOR, "Gateway", "withdraw", BATCH, [(BOB, 1)])


@pytest.mark.parametrize("sender", [OPERATOR, GUARDIAN, STRANGER])
def test_only_the_timelock_names_another_place(chain: Chain, sender: str) -> None:
    for function in ("setDistributor", "setStakePools"):
        why = chain.reverts(sender, "Gateway", function, sender)
        assert why.startswith("AccessControlUnauthorizedAccount")
