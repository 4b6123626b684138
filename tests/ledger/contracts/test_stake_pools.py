"""Stakes earn what was funded, second by second and by share; they leave on their pool's terms."""

from __future__ import annotations

import pytest

from ledger.chain.deploy import PoolKind, name_word
from tests.chain_fixtures import ALICE, BOB, CAROL, GUARDIAN, OPEN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import (
    COOLDOWN,
    DAY,
    FLEXIBLE,
    LOCKED,
    MODEL,
    PERIOD,
    POOLS,
    RATE_SCALE,
    TERM,
    as_timelock,
    fund_pool,
    position,
    set_paused,
    stake,
)

# Blocks are seconds apart at most, and a week streams.
NEAR = 0.0001


def test_what_is_funded_streams_to_the_stakers_by_share(chain: Chain) -> None:
    stake(chain, ALICE, 3 * OPEN)
    stake(chain, BOB, OPEN)
    fund_pool(chain, 8 * OPEN)
    chain.warp(PERIOD // 2)
    assert position(chain, FLEXIBLE, ALICE).earned == pytest.approx(3 * OPEN, rel=NEAR)
    assert position(chain, FLEXIBLE, BOB).earned == pytest.approx(OPEN, rel=NEAR)
    chain.warp(PERIOD)
    assert position(chain, FLEXIBLE, ALICE).earned == 6 * OPEN
    assert chain.read(POOLS, "stream", FLEXIBLE)[1] == 0


def test_a_later_stake_earns_nothing_of_what_flowed_before(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    fund_pool(chain, 7 * OPEN)
    chain.warp(PERIOD)
    stake(chain, BOB, 1000 * OPEN)
    assert position(chain, FLEXIBLE, BOB).earned == 0
    assert position(chain, FLEXIBLE, ALICE).earned == 7 * OPEN


def test_a_top_up_keeps_what_was_earned_and_earns_from_then_on(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    fund_pool(chain, 7 * OPEN)
    chain.warp(PERIOD)
    stake(chain, ALICE, OPEN)
    assert position(chain, FLEXIBLE, ALICE).staked == 2 * OPEN
    assert position(chain, FLEXIBLE, ALICE).earned == 7 * OPEN


def test_another_period_holds_for_later_fundings_alone(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    fund_pool(chain, 7 * OPEN)
    chain.warp(DAY)
    before = position(chain, FLEXIBLE, ALICE).earned
    rate = chain.read(POOLS, "stream", FLEXIBLE)[2]
    chain.send(as_timelock(chain), POOLS, "setPeriod", FLEXIBLE, DAY)
    assert position(chain, FLEXIBLE, ALICE).earned == pytest.approx(before, rel=NEAR)
    assert chain.read(POOLS, "stream", FLEXIBLE)[2] == rate
    chain.warp(10 * DAY)
    fund_pool(chain, OPEN)
    assert chain.read(POOLS, "stream", FLEXIBLE)[2] == -(-OPEN * RATE_SCALE // DAY)


def test_a_tiny_funding_neither_stretches_nor_hurries_a_stream(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    fund_pool(chain, 7 * OPEN)
    chain.warp(PERIOD - DAY)
    ends_at = chain.read(POOLS, "stream", FLEXIBLE)[3]
    for _ in range(5):
        fund_pool(chain, 1)
    assert abs(chain.read(POOLS, "stream", FLEXIBLE)[3] - ends_at) <= 1


def test_rewards_wait_while_nobody_is_staked(chain: Chain) -> None:
    fund_pool(chain, 7 * OPEN)
    chain.warp(10 * PERIOD)
    stake(chain, ALICE, OPEN)
    assert position(chain, FLEXIBLE, ALICE).earned == 0
    chain.warp(PERIOD + 1)
    assert position(chain, FLEXIBLE, ALICE).earned == 7 * OPEN


def test_anyone_claims_for_anyone_and_nothing_is_paid_twice(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    fund_pool(chain, 7 * OPEN)
    chain.warp(PERIOD + 1)
    before = chain.balance(ALICE)
    receipt = chain.send(STRANGER, POOLS, "claim", FLEXIBLE, ALICE)
    assert chain.balance(ALICE) - before == 7 * OPEN
    assert chain.events(receipt) == [
        ("RewardsClaimed", {"poolId": FLEXIBLE, "account": ALICE, "amount": 7 * OPEN})
    ]
    assert chain.reverts(STRANGER, POOLS, "claim", FLEXIBLE, ALICE).startswith("NothingToClaim")


def test_a_flexible_stake_leaves_after_its_cooldown_and_earns_no_more(chain: Chain) -> None:
    stake(chain, ALICE, 3 * OPEN)
    fund_pool(chain, 7 * OPEN)
    receipt = chain.send(ALICE, POOLS, "unstake", FLEXIBLE, 3 * OPEN)
    earned = position(chain, FLEXIBLE, ALICE).earned
    releases_at = chain.events(receipt)[0][1]["releasesAt"]
    assert releases_at == chain.now() + COOLDOWN
    why = chain.reverts(ALICE, POOLS, "withdraw", FLEXIBLE)
    assert why == f"StillLocked(releasesAt={releases_at})"

    chain.warp(COOLDOWN)
    before = chain.balance(chain.address(POOLS))
    chain.send(ALICE, POOLS, "withdraw", FLEXIBLE)
    assert before - chain.balance(chain.address(POOLS)) == 3 * OPEN
    assert position(chain, FLEXIBLE, ALICE).earned == earned
    assert chain.reverts(ALICE, POOLS, "withdraw", FLEXIBLE).startswith("NothingToWithdraw")


def test_taking_out_more_starts_the_cooldown_anew(chain: Chain) -> None:
    stake(chain, ALICE, 3 * OPEN)
    chain.send(ALICE, POOLS, "unstake", FLEXIBLE, OPEN)
    chain.warp(COOLDOWN - 10)
    chain.send(ALICE, POOLS, "unstake", FLEXIBLE, OPEN)
    chain.warp(60)
    assert chain.reverts(ALICE, POOLS, "withdraw", FLEXIBLE).startswith("StillLocked")
    chain.warp(COOLDOWN)
    chain.send(ALICE, POOLS, "withdraw", FLEXIBLE)
    assert position(chain, FLEXIBLE, ALICE).staked == OPEN


def test_a_locked_stake_leaves_at_once_after_its_term(chain: Chain) -> None:
    stake(chain, ALICE, 3 * OPEN, LOCKED)
    assert chain.reverts(ALICE, POOLS, "unstake", LOCKED, 1).startswith("StillLocked")
    chain.warp(TERM)
    before = chain.balance(chain.address(POOLS))
    receipt = chain.send(ALICE, POOLS, "unstake", LOCKED, 2 * OPEN)
    assert [name for name, _ in chain.events(receipt)] == ["Unstaked", "Withdrawn"]
    assert before - chain.balance(chain.address(POOLS)) == 2 * OPEN
    assert position(chain, LOCKED, ALICE).staked == OPEN


def test_a_top_up_starts_the_term_anew_for_the_whole_stake(chain: Chain) -> None:
    stake(chain, ALICE, OPEN, LOCKED)
    chain.warp(TERM)
    stake(chain, ALICE, 1, LOCKED)
    assert chain.reverts(ALICE, POOLS, "unstake", LOCKED, OPEN).startswith("StillLocked")


def test_a_models_pool_opens_when_it_is_first_funded_or_staked_in(chain: Chain) -> None:
    receipt = fund_pool(chain, OPEN, MODEL)
    assert chain.events(receipt)[0] == (
        "PoolOpened",
        {"poolId": MODEL, "kind": int(PoolKind.FLEXIBLE), "wait": COOLDOWN, "period": PERIOD},
    )
    other = bytes(31) + b"\7"
    receipt = stake(chain, ALICE, OPEN, other)
    assert [name for name, _ in chain.events(receipt)] == ["PoolOpened", "Staked"]


@pytest.mark.parametrize("pool", [bytes(32), name_word("mine"), b"\1" + bytes(31)])
def test_an_id_that_is_no_models_opens_by_the_timelock_alone(chain: Chain, pool: bytes) -> None:
    for call in (("stake", pool), ("fund", pool)):
        assert chain.reverts(ALICE, POOLS, *call, value=1).startswith("UnknownPool")
    opening = (pool, int(PoolKind.LOCKED), 5, 5)
    for sender in (ALICE, OPERATOR, GUARDIAN):
        why = chain.reverts(sender, POOLS, "openPool", opening)
        assert why.startswith("AccessControlUnauthorizedAccount")


def test_the_timelock_opens_a_pool_on_terms_of_its_own(chain: Chain) -> None:
    pool = name_word("year")
    chain.send(as_timelock(chain), POOLS, "openPool", (pool, int(PoolKind.LOCKED), 365 * DAY, DAY))
    stake(chain, ALICE, OPEN, pool)
    chain.warp(364 * DAY)
    assert chain.reverts(ALICE, POOLS, "unstake", pool, OPEN).startswith("StillLocked")
    chain.warp(DAY)
    chain.send(ALICE, POOLS, "unstake", pool, OPEN)


def test_other_terms_hold_for_pools_that_open_later(chain: Chain) -> None:
    stake(chain, ALICE, OPEN, MODEL)
    chain.send(as_timelock(chain), POOLS, "setTerms", (DAY, DAY, DAY, 100, 0))
    stake(chain, ALICE, OPEN, bytes(31) + b"\7")
    assert chain.read(POOLS, "pools", MODEL)[2] == COOLDOWN
    assert chain.read(POOLS, "pools", bytes(31) + b"\7")[2] == DAY


def test_a_closed_pool_takes_no_stake_and_lets_those_inside_out(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    chain.send(as_timelock(chain), POOLS, "setClosed", FLEXIBLE, True)
    assert chain.reverts(BOB, POOLS, "stake", FLEXIBLE, value=1).startswith("PoolIsClosed")
    chain.send(ALICE, POOLS, "unstake", FLEXIBLE, OPEN)
    chain.warp(COOLDOWN)
    chain.send(ALICE, POOLS, "withdraw", FLEXIBLE)


def test_one_pool_never_pays_from_anothers_fundings(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    stake(chain, BOB, OPEN, MODEL)
    fund_pool(chain, 5 * OPEN, MODEL)
    chain.warp(PERIOD + 1)
    assert chain.reverts(ALICE, POOLS, "claim", FLEXIBLE, ALICE).startswith("NothingToClaim")
    chain.send(BOB, POOLS, "claim", MODEL, BOB)
    assert chain.read(POOLS, "solvency") == (2 * OPEN, 2 * OPEN, 0, 0)


def test_nothing_of_anothers_stake_can_be_taken(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    for sender in (BOB, OPERATOR, GUARDIAN, as_timelock(chain)):
        why = chain.reverts(sender, POOLS, "unstake", FLEXIBLE, 1)
        assert why == "NotEnoughStaked(staked=0, asked=1)"
        assert chain.reverts(sender, POOLS, "withdraw", FLEXIBLE).startswith("NothingToWithdraw")


def test_paused_it_pays_nothing_and_takes_no_stake_but_cooldowns_run(chain: Chain) -> None:
    stake(chain, ALICE, 2 * OPEN)
    fund_pool(chain, OPEN)
    set_paused(chain, POOLS, paused=True)
    chain.send(ALICE, POOLS, "unstake", FLEXIBLE, OPEN)
    fund_pool(chain, OPEN)
    chain.warp(COOLDOWN)
    for call, value in ((("withdraw", FLEXIBLE), 0), (("claim", FLEXIBLE, ALICE), 0),
                        (("stake", FLEXIBLE), 1)):  # fmt: skip
        assert chain.reverts(ALICE, POOLS, *call, value=value) == "StakingPaused()"
    for sender in (GUARDIAN, OPERATOR):
        why = chain.reverts(sender, POOLS, "setPaused", False)
        assert why.startswith("AccessControlUnauthorizedAccount")
    set_paused(chain, POOLS, paused=False)
    chain.send(ALICE, POOLS, "withdraw", FLEXIBLE)


@pytest.mark.parametrize("sender", [ALICE, OPERATOR, CAROL])
def test_only_the_guardian_pauses(chain: Chain, sender: str) -> None:
    why = chain.reverts(sender, POOLS, "setPaused", True)
    assert why.startswith("AccessControlUnauthorizedAccount")


@pytest.mark.parametrize(
    "call",
    [
        ("setTerms", (1, 1, 60, 0, 0)),
        ("setTreasury", ALICE),
        ("setPeriod", FLEXIBLE, 1),
        ("setClosed", FLEXIBLE, True),
    ],
)
def test_only_the_timelock_sets_terms(chain: Chain, call: tuple) -> None:
    for sender in (ALICE, OPERATOR, GUARDIAN):
        why = chain.reverts(sender, POOLS, *call)
        assert why.startswith("AccessControlUnauthorizedAccount")
    assert chain.reverts(chain.address("Timelock"), POOLS, *call) == ""


@pytest.mark.parametrize(
    "terms",
    [
        (731 * DAY, 1, 60, 0, 0),
        (0, 0, 60, 0, 0),
        (0, 366 * DAY, 60, 0, 0),
        (0, 1, 59, 0, 0),
        (0, 1, 31 * DAY, 0, 0),
        (0, 1, 60, 5_001, 0),
    ],
)
def test_terms_have_bounds(chain: Chain, terms: tuple[int, ...]) -> None:
    why = chain.reverts(chain.address("Timelock"), POOLS, "setTerms", terms)
    assert why.startswith("OutOfBounds")


def test_open_sent_without_a_pool_bounces(chain: Chain) -> None:
    receipt = chain.transfer(ALICE, chain.address(POOLS), OPEN)
    assert not receipt.succeeded
