"""A slash takes its stated share and no more, after a time in which it can be stopped."""

from __future__ import annotations

import pytest

from tests.chain_fixtures import ALICE, BOB, GUARDIAN, OPEN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import (
    BOND,
    COOLDOWN,
    DAY,
    EVIDENCE,
    FLEXIBLE,
    LOCKED,
    POOLS,
    TERM,
    WINDOW,
    as_timelock,
    fund_pool,
    position,
    propose_slash,
    set_paused,
    stake,
)

STATEMENT = b"\5" * 32


def test_a_slash_takes_its_stated_share_for_the_treasury(chain: Chain) -> None:
    stake(chain, ALICE, 4 * OPEN)
    stake(chain, BOB, 4 * OPEN)
    receipt = chain.send(OPERATOR, POOLS, "proposeSlash", FLEXIBLE, ALICE, 2_500, EVIDENCE)
    (name, told), *_ = chain.events(receipt)
    assert name == "SlashProposed"
    assert (told["share"], told["amount"], told["evidence"]) == (2_500, OPEN, EVIDENCE)
    assert told["executableAt"] == chain.now() + WINDOW

    why = chain.reverts(STRANGER, POOLS, "executeSlash", told["slashId"])
    assert why == f"AppealOpen(executableAt={told['executableAt']})"
    chain.warp(WINDOW)
    chain.send(STRANGER, POOLS, "executeSlash", told["slashId"])
    assert position(chain, FLEXIBLE, ALICE).staked == 3 * OPEN
    assert position(chain, FLEXIBLE, BOB).staked == 4 * OPEN
    assert chain.read(POOLS, "solvency") == (8 * OPEN, 7 * OPEN, 0, OPEN)

    before = chain.balance(chain.address("Timelock"))
    chain.send(STRANGER, POOLS, "collectSlashed")
    assert chain.balance(chain.address("Timelock")) - before == OPEN
    assert chain.read(POOLS, "solvency") == (7 * OPEN, 7 * OPEN, 0, 0)


@pytest.mark.parametrize("share", [0, 3_001, 10_000])
def test_a_share_has_bounds(chain: Chain, share: int) -> None:
    stake(chain, ALICE, OPEN)
    why = chain.reverts(OPERATOR, POOLS, "proposeSlash", FLEXIBLE, ALICE, share, EVIDENCE)
    assert why == f"OutOfBounds(value={share}, low=1, high=3000)"


@pytest.mark.parametrize("sender", [ALICE, GUARDIAN, STRANGER])
def test_only_the_slasher_proposes(chain: Chain, sender: str) -> None:
    stake(chain, ALICE, OPEN)
    why = chain.reverts(sender, POOLS, "proposeSlash", FLEXIBLE, ALICE, 1, EVIDENCE)
    assert why.startswith("AccessControlUnauthorizedAccount")


def test_a_stake_has_one_slash_at_a_time(chain: Chain) -> None:
    stake(chain, ALICE, OPEN)
    number = propose_slash(chain, ALICE, 100)
    why = chain.reverts(OPERATOR, POOLS, "proposeSlash", FLEXIBLE, ALICE, 100, EVIDENCE)
    assert why == f"SlashWaits(slashId={number})"


def test_what_is_held_stays_and_the_rest_leaves(chain: Chain) -> None:
    stake(chain, ALICE, 10 * OPEN)
    chain.send(as_timelock(chain), POOLS, "setTerms", (COOLDOWN, DAY, 30 * DAY, 3_000, BOND))
    propose_slash(chain, ALICE, 3_000)
    chain.send(ALICE, POOLS, "unstake", FLEXIBLE, 10 * OPEN)
    chain.warp(COOLDOWN)
    assert position(chain, FLEXIBLE, ALICE).withdrawable == 7 * OPEN
    chain.send(ALICE, POOLS, "withdraw", FLEXIBLE)
    assert chain.reverts(ALICE, POOLS, "withdraw", FLEXIBLE).startswith("NothingToWithdraw")
    chain.warp(30 * DAY)
    chain.send(STRANGER, POOLS, "executeSlash", 1)
    assert chain.read(POOLS, "solvency") == (3 * OPEN, 0, 0, 3 * OPEN)


def test_a_locked_stake_cannot_leave_under_a_slash_after_its_term(chain: Chain) -> None:
    stake(chain, ALICE, 10 * OPEN, LOCKED)
    chain.warp(TERM)
    number = propose_slash(chain, ALICE, 1_000, LOCKED)
    why = chain.reverts(ALICE, POOLS, "unstake", LOCKED, 9 * OPEN + 1)
    assert why == f"HeldBySlash(slashId={number}, amount={OPEN})"
    chain.send(ALICE, POOLS, "unstake", LOCKED, 9 * OPEN)


def test_a_stake_under_a_slash_earns_until_it_is_taken(chain: Chain) -> None:
    stake(chain, ALICE, 4 * OPEN)
    fund_pool(chain, 7 * OPEN)
    number = propose_slash(chain, ALICE, 2_500)
    chain.warp(WINDOW + 1)
    chain.send(STRANGER, POOLS, "executeSlash", number)
    assert position(chain, FLEXIBLE, ALICE).earned == 7 * OPEN


def test_an_appeal_costs_the_bond_and_moves_the_end_by_a_window_once(chain: Chain) -> None:
    stake(chain, ALICE, 4 * OPEN)
    number = propose_slash(chain, ALICE, 2_500)
    first_end = chain.now() + WINDOW
    why = chain.reverts(BOB, POOLS, "appeal", number, STATEMENT, value=BOND)
    assert why.startswith("NotTheirs")
    why = chain.reverts(ALICE, POOLS, "appeal", number, STATEMENT, value=BOND - 1)
    assert why == f"WrongBond(sent={BOND - 1}, asked={BOND})"
    receipt = chain.send(ALICE, POOLS, "appeal", number, STATEMENT, value=BOND)
    assert chain.events(receipt)[0][1]["executableAt"] == first_end + WINDOW
    why = chain.reverts(ALICE, POOLS, "appeal", number, STATEMENT, value=BOND)
    assert why.startswith("AppealedBefore")
    chain.warp(WINDOW + 1)
    assert chain.reverts(STRANGER, POOLS, "executeSlash", number).startswith("AppealOpen")
    chain.warp(WINDOW)
    chain.send(STRANGER, POOLS, "executeSlash", number)
    assert chain.read(POOLS, "solvency")[1:] == (3 * OPEN, 0, OPEN + BOND)


def test_after_its_window_nothing_is_appealed(chain: Chain) -> None:
    stake(chain, ALICE, 4 * OPEN)
    number = propose_slash(chain, ALICE, 2_500)
    chain.warp(WINDOW)
    why = chain.reverts(ALICE, POOLS, "appeal", number, STATEMENT, value=BOND)
    assert why.startswith("AppealOver")


@pytest.mark.parametrize("by_guardian", [True, False])
def test_guardian_and_timelock_call_a_slash_off_and_the_bond_comes_back(
    chain: Chain, by_guardian: bool
) -> None:
    stake(chain, ALICE, 4 * OPEN)
    number = propose_slash(chain, ALICE, 2_500)
    chain.send(ALICE, POOLS, "appeal", number, STATEMENT, value=BOND)
    for sender in (ALICE, OPERATOR, STRANGER):
        why = chain.reverts(sender, POOLS, "cancelSlash", number)
        assert why.startswith("AccessControlUnauthorizedAccount")
    chain.send(GUARDIAN if by_guardian else as_timelock(chain), POOLS, "cancelSlash", number)
    assert position(chain, FLEXIBLE, ALICE).earned == BOND
    assert position(chain, FLEXIBLE, ALICE).held == 0
    chain.send(STRANGER, POOLS, "claim", FLEXIBLE, ALICE)
    assert chain.read(POOLS, "solvency") == (4 * OPEN, 4 * OPEN, 0, 0)
    why = chain.reverts(STRANGER, POOLS, "executeSlash", number)
    assert why == f"UnknownSlash(slashId={number})"


def test_other_terms_change_nothing_for_a_slash_that_waits(chain: Chain) -> None:
    stake(chain, ALICE, 4 * OPEN)
    number = propose_slash(chain, ALICE, 2_500)
    end = chain.now() + WINDOW
    chain.send(as_timelock(chain), POOLS, "setTerms", (COOLDOWN, DAY, 60, 100, 5))
    receipt = chain.send(ALICE, POOLS, "appeal", number, STATEMENT, value=BOND)
    assert chain.events(receipt)[0][1]["executableAt"] == end + WINDOW
    chain.warp(2 * WINDOW)
    chain.send(STRANGER, POOLS, "executeSlash", number)
    assert chain.read(POOLS, "slashed") == OPEN + BOND


def test_paused_no_slash_is_carried_out(chain: Chain) -> None:
    stake(chain, ALICE, 4 * OPEN)
    number = propose_slash(chain, ALICE, 2_500)
    chain.warp(WINDOW)
    set_paused(chain, POOLS, paused=True)
    assert chain.reverts(STRANGER, POOLS, "executeSlash", number) == "StakingPaused()"
    chain.send(GUARDIAN, POOLS, "cancelSlash", number)


def test_a_stake_of_nothing_or_without_evidence_is_not_slashed(chain: Chain) -> None:
    why = chain.reverts(OPERATOR, POOLS, "proposeSlash", FLEXIBLE, ALICE, 100, EVIDENCE)
    assert why == "ZeroAmount()"
    stake(chain, ALICE, OPEN)
    why = chain.reverts(OPERATOR, POOLS, "proposeSlash", FLEXIBLE, ALICE, 100, bytes(32))
    assert why == "NoEvidence()"


def test_the_treasury_is_another_where_the_timelock_says_so(chain: Chain) -> None:
    timelock = as_timelock(chain)
    assert chain.reverts(timelock, POOLS, "setTreasury", "0x" + "00" * 20) == "ZeroAddress()"
    fresh = "0x00000000000000000000000000000000000A11cE"
    chain.send(timelock, POOLS, "setTreasury", fresh)
    stake(chain, ALICE, OPEN)
    number = propose_slash(chain, ALICE, 3_000)
    chain.warp(WINDOW)
    chain.send(STRANGER, POOLS, "executeSlash", number)
    chain.send(STRANGER, POOLS, "collectSlashed")
    assert chain.balance(fresh) == 3 * OPEN // 10
