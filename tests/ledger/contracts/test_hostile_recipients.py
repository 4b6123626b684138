"""Recipients that call back, burn gas, refuse or answer with megabytes get what is theirs, once."""

from __future__ import annotations

import pytest

from ledger.chain import artifacts
from tests.chain_fixtures import ALICE, BOB, CAROL, OPEN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import (
    BOND,
    COOLDOWN,
    FLEXIBLE,
    LOCKED,
    PERIOD,
    POOLS,
    TERM,
    WINDOW,
    Hostile,
    Mode,
    as_timelock,
    claim,
    claim_arguments,
    fund,
    fund_pool,
    position,
    propose_slash,
    publish,
    stake,
)

BATCH = b"\1" * 32


@pytest.fixture
def hostile(chain: Chain) -> Hostile:
    return Hostile(chain, CAROL)


# ------------------------------------------------------------------ calling back


def test_a_claim_that_claims_again_inside_finds_nothing_left(
    chain: Chain, hostile: Hostile
) -> None:
    fund(chain, 5 * OPEN)
    tree = publish(chain, {hostile.address: 2 * OPEN, ALICE: 3 * OPEN}, 1)
    hostile.arm(
        Mode.CALL_BACK, "RewardDistributor", "claim", *claim_arguments(tree, hostile.address)
    )
    receipt = claim(chain, tree, hostile.address, sender=STRANGER)
    [(succeeded, why)] = hostile.answers(receipt)
    assert not succeeded
    assert why.startswith("NothingToClaim")
    assert chain.balance(hostile.address) == 2 * OPEN
    claim(chain, tree, ALICE, sender=STRANGER)


def test_rewards_that_are_claimed_inside_their_claim_are_paid_once(
    chain: Chain, hostile: Hostile
) -> None:
    hostile.run(POOLS, "stake", FLEXIBLE, value=OPEN)
    stake(chain, ALICE, OPEN)
    fund_pool(chain, 4 * OPEN)
    chain.warp(PERIOD + 1)
    hostile.arm(Mode.CALL_BACK, POOLS, "claim", FLEXIBLE, hostile.address)
    owed = position(chain, FLEXIBLE, hostile.address).earned
    receipt = chain.send(STRANGER, POOLS, "claim", FLEXIBLE, hostile.address)
    assert [why.split("(")[0] for _, why in hostile.answers(receipt)] == ["NothingToClaim"]
    assert chain.balance(hostile.address) == owed
    chain.send(STRANGER, POOLS, "claim", FLEXIBLE, ALICE)


def test_a_stake_that_is_withdrawn_inside_its_withdrawal_leaves_once(
    chain: Chain, hostile: Hostile
) -> None:
    hostile.run(POOLS, "stake", FLEXIBLE, value=OPEN)
    stake(chain, ALICE, OPEN)
    hostile.run(POOLS, "unstake", FLEXIBLE, OPEN)
    chain.warp(COOLDOWN)
    hostile.arm(Mode.CALL_BACK, POOLS, "withdraw", FLEXIBLE)
    receipt = hostile.run(POOLS, "withdraw", FLEXIBLE)
    assert [why.split("(")[0] for _, why in hostile.answers(receipt)] == ["NothingToWithdraw"]
    assert chain.balance(hostile.address) == OPEN
    assert chain.read(POOLS, "solvency") == (OPEN, OPEN, 0, 0)


def test_a_locked_stake_taken_out_inside_itself_is_never_more_than_the_stake(
    chain: Chain, hostile: Hostile
) -> None:
    hostile.run(POOLS, "stake", LOCKED, value=5 * OPEN)
    stake(chain, ALICE, 5 * OPEN, LOCKED)
    chain.warp(TERM)
    hostile.arm(Mode.CALL_BACK, POOLS, "unstake", LOCKED, 2 * OPEN)
    receipt = hostile.run(POOLS, "unstake", LOCKED, 2 * OPEN)
    # Each call back is a withdrawal like another: two go through, the third asks for too much.
    assert sorted(succeeded for succeeded, _ in hostile.answers(receipt)) == [False, True]
    assert chain.balance(hostile.address) == 4 * OPEN
    assert chain.read(POOLS, "solvency") == (6 * OPEN, 6 * OPEN, 0, 0)


def test_gopen_that_is_burnt_inside_its_unwrapping_is_paid_once(
    chain: Chain, hostile: Hostile
) -> None:
    hostile.run("GovernanceToken", "deposit", value=OPEN)
    chain.send(ALICE, "GovernanceToken", "deposit", value=OPEN)
    hostile.arm(Mode.CALL_BACK, "GovernanceToken", "withdraw", OPEN)
    receipt = hostile.run("GovernanceToken", "withdraw", OPEN)
    assert [why.split("(")[0] for _, why in hostile.answers(receipt)] == [
        "ERC20InsufficientBalance"
    ]
    assert chain.balance(chain.address("GovernanceToken")) == OPEN


def test_a_treasury_that_collects_inside_a_collection_gets_it_once(
    chain: Chain, hostile: Hostile
) -> None:
    chain.send(as_timelock(chain), POOLS, "setTreasury", hostile.address)
    stake(chain, ALICE, 10 * OPEN)
    number = propose_slash(chain, ALICE, 1_000)
    chain.warp(WINDOW)
    chain.send(STRANGER, POOLS, "executeSlash", number)
    hostile.arm(Mode.CALL_BACK, POOLS, "collectSlashed")
    receipt = chain.send(STRANGER, POOLS, "collectSlashed")
    assert hostile.answers(receipt) == [(False, "ZeroAmount()")]
    assert chain.balance(hostile.address) == OPEN


def test_a_payment_of_a_batch_has_no_gas_to_call_back(chain: Chain, hostile: Hostile) -> None:
    chain.send(ALICE, "Gateway", "deposit", b"\7" * 32, value=5 * OPEN)
    chain.send(as_timelock(chain), "Gateway", "grantRole", _role(chain), hostile.address)
    payments = [(hostile.address, OPEN)]
    hostile.arm(Mode.CALL_BACK, "Gateway", "withdraw", b"\2" * 32, payments)
    receipt = chain.send(OPERATOR, "Gateway", "withdraw", BATCH, payments)
    # Even an operator that pays itself cannot have a second batch begin inside the first.
    assert [name for name, _ in chain.events(receipt)] == ["Refused", "BatchPaid"]
    assert chain.read("Gateway", "done", b"\2" * 32) is False


def _role(chain: Chain) -> bytes:
    role: bytes = chain.read("Gateway", "OPERATOR_ROLE")
    return role


# ------------------------------------------------------------- gas and refusals


@pytest.mark.parametrize("mode", [Mode.BURN, Mode.REFUSE, Mode.BOMB])
def test_in_a_batch_the_others_are_paid_at_a_bounded_price(
    chain: Chain, hostile: Hostile, mode: Mode
) -> None:
    chain.send(ALICE, "Gateway", "deposit", b"\7" * 32, value=5 * OPEN)
    hostile.arm(mode)
    before = chain.balance(BOB)
    payments = [(hostile.address, OPEN), (BOB, OPEN)]
    receipt = chain.send(OPERATOR, "Gateway", "withdraw", BATCH, payments)
    assert [name for name, _ in chain.events(receipt)] == ["Refused", "Withdrawn", "BatchPaid"]
    assert chain.balance(BOB) - before == OPEN
    assert receipt.gas_used < 120_000


@pytest.mark.parametrize("mode", [Mode.BURN, Mode.REFUSE])
def test_a_claim_for_whom_refuses_it_changes_nothing(
    chain: Chain, hostile: Hostile, mode: Mode
) -> None:
    fund(chain, 5 * OPEN)
    tree = publish(chain, {hostile.address: 2 * OPEN, ALICE: 3 * OPEN}, 1)
    hostile.arm(mode)
    why = chain.reverts(
        STRANGER, "RewardDistributor", "claim", *claim_arguments(tree, hostile.address)
    )
    assert why.startswith("TransferFailed")
    claim(chain, tree, ALICE, sender=STRANGER)
    hostile.arm(Mode.ACCEPT)
    claim(chain, tree, hostile.address, sender=STRANGER)
    assert chain.balance(hostile.address) == 2 * OPEN


def test_an_answer_of_a_megabyte_is_not_copied_by_who_pays(chain: Chain, hostile: Hostile) -> None:
    fund(chain, 5 * OPEN)
    tree = publish(chain, {hostile.address: 2 * OPEN, ALICE: 3 * OPEN}, 1)
    hostile.arm(Mode.BOMB)
    receipt = claim(chain, tree, hostile.address, sender=STRANGER)
    # Making the answer costs the recipient 2.2 million gas; copying it would cost as much again.
    assert receipt.gas_used < 2_500_000


def test_burning_gas_in_a_relayed_claim_costs_its_sender_no_more_than_the_limit(
    chain: Chain, hostile: Hostile
) -> None:
    hostile.run(POOLS, "stake", FLEXIBLE, value=OPEN)
    fund_pool(chain, OPEN)
    chain.warp(PERIOD + 1)
    hostile.arm(Mode.BURN)
    data = artifacts.load(POOLS).encode_call("claim", FLEXIBLE, hostile.address)
    tx_hash = chain.submit(STRANGER, chain.address(POOLS), data, gas=200_000)
    chain.mine()
    receipt = chain.client.receipt(tx_hash)
    assert receipt is not None
    assert (receipt.succeeded, receipt.gas_used <= 200_000) == (False, True)
    assert position(chain, FLEXIBLE, hostile.address).earned == OPEN


def test_a_staker_that_refuses_its_money_cannot_stop_a_slash(
    chain: Chain, hostile: Hostile
) -> None:
    hostile.run(POOLS, "stake", FLEXIBLE, value=10 * OPEN)
    hostile.arm(Mode.REFUSE)
    number = propose_slash(chain, hostile.address, 1_000)
    hostile.run(POOLS, "appeal", number, b"\1" * 32, value=BOND)
    chain.warp(2 * WINDOW)
    chain.send(STRANGER, POOLS, "executeSlash", number)
    assert chain.read(POOLS, "slashed") == OPEN + BOND


def test_a_staker_that_refuses_its_stake_keeps_it(chain: Chain, hostile: Hostile) -> None:
    hostile.run(POOLS, "stake", FLEXIBLE, value=OPEN)
    hostile.run(POOLS, "unstake", FLEXIBLE, OPEN)
    chain.warp(COOLDOWN)
    hostile.arm(Mode.REFUSE)
    assert hostile.reverts(POOLS, "withdraw", FLEXIBLE).startswith("TransferFailed")
    hostile.arm(Mode.ACCEPT)
    hostile.run(POOLS, "withdraw", FLEXIBLE)
    assert chain.balance(hostile.address) == OPEN
