"""Holders wrap, delegate, propose, vote, queue and execute; nobody else and nothing sooner."""

from __future__ import annotations

import pytest

from ledger.chain import artifacts
from ledger.chain.keccak import keccak256
from tests.chain_fixtures import (
    ALICE,
    BOB,
    OPEN,
    STRANGER,
    TIMELOCK_DELAY,
    VOTING_DELAY,
    VOTING_PERIOD,
    Chain,
)
from tests.ledger.contracts.tools import REFUSES

PENDING, ACTIVE, CANCELED, DEFEATED, SUCCEEDED, QUEUED, EXPIRED, EXECUTED = range(8)
NEW_SPLIT = (500, 2500, 2000, 5000)
TEXT = "Pay model owners more"


def motion(chain: Chain) -> tuple[list[str], list[int], list[bytes]]:
    data = artifacts.load("Parameters").encode_call("setSplit", NEW_SPLIT)
    return [chain.address("Parameters")], [0], [data]


def wrap(chain: Chain, holder: str, amount: int) -> None:
    chain.send(holder, "GovernanceToken", "depositAndDelegate", holder, value=amount)
    # Votes count from the second after.
    chain.warp(1)


def propose(chain: Chain, holder: str = ALICE) -> int:
    receipt = chain.send(holder, "OpenGovernor", "propose", *motion(chain), TEXT)
    return chain.events(receipt)[0][1]["proposalId"]


def state(chain: Chain, proposal: int) -> int:
    return chain.read("OpenGovernor", "state", proposal)


def test_wrapping_and_unwrapping_is_one_to_one(chain: Chain) -> None:
    wrap(chain, ALICE, 3 * OPEN)
    assert chain.read("GovernanceToken", "balanceOf", ALICE) == 3 * OPEN
    assert chain.read("GovernanceToken", "getVotes", ALICE) == 3 * OPEN
    chain.send(ALICE, "GovernanceToken", "withdraw", OPEN)
    assert chain.read("GovernanceToken", "totalSupply") == 2 * OPEN
    assert chain.balance(chain.address("GovernanceToken")) == 2 * OPEN


def test_nothing_is_wrapped_or_unwrapped_for_nothing(chain: Chain) -> None:
    assert chain.reverts(ALICE, "GovernanceToken", "deposit") == "ZeroAmount()"
    assert chain.reverts(ALICE, "GovernanceToken", "withdraw", 0) == "ZeroAmount()"
    why = chain.reverts(ALICE, "GovernanceToken", "withdraw", 1)
    assert why.startswith("ERC20InsufficientBalance")


def test_open_is_not_lost_where_its_owner_refuses_it(chain: Chain) -> None:
    wrap(chain, BOB, OPEN)
    chain.install_code(BOB, REFUSES)
    why = chain.reverts(BOB, "GovernanceToken", "withdraw", OPEN)
    chain.install_code(BOB, "0x")
    assert why.startswith("TransferFailed")


def test_a_proposal_goes_all_the_way_and_changes_the_split(chain: Chain) -> None:
    wrap(chain, ALICE, 100 * OPEN)
    proposal = propose(chain)
    assert state(chain, proposal) == PENDING
    chain.warp(VOTING_DELAY + 1)
    chain.send(ALICE, "OpenGovernor", "castVoteWithReason", proposal, 1, "fair")
    assert state(chain, proposal) == ACTIVE
    chain.warp(VOTING_PERIOD + 1)
    assert state(chain, proposal) == SUCCEEDED
    arguments = (*motion(chain), keccak256(TEXT.encode()))
    chain.send(STRANGER, "OpenGovernor", "queue", *arguments)
    assert state(chain, proposal) == QUEUED
    why = chain.reverts(STRANGER, "OpenGovernor", "execute", *arguments)
    assert why.startswith("TimelockUnexpectedOperationState")
    chain.warp(TIMELOCK_DELAY + 1)
    chain.send(STRANGER, "OpenGovernor", "execute", *arguments)
    assert state(chain, proposal) == EXECUTED
    assert chain.read("Parameters", "split") == NEW_SPLIT


def test_without_a_quorum_or_a_majority_it_is_defeated(chain: Chain) -> None:
    wrap(chain, ALICE, 97 * OPEN)
    wrap(chain, BOB, 3 * OPEN)
    proposal = propose(chain)
    chain.warp(VOTING_DELAY + 1)
    chain.send(BOB, "OpenGovernor", "castVote", proposal, 1)
    chain.warp(VOTING_PERIOD + 1)
    assert state(chain, proposal) == DEFEATED
    why = chain.reverts(BOB, "OpenGovernor", "queue", *motion(chain), keccak256(TEXT.encode()))
    assert why.startswith("GovernorUnexpectedProposalState")


def test_a_quorum_reached_late_moves_the_deadline(chain: Chain) -> None:
    wrap(chain, ALICE, 10 * OPEN)
    proposal = propose(chain)
    before = chain.read("OpenGovernor", "proposalDeadline", proposal)
    chain.warp(VOTING_DELAY + VOTING_PERIOD - 3)
    receipt = chain.send(ALICE, "OpenGovernor", "castVote", proposal, 1)
    assert "ProposalExtended" in [name for name, _ in chain.events(receipt)]
    assert chain.read("OpenGovernor", "proposalDeadline", proposal) > before


def test_votes_count_as_they_were_at_the_snapshot(chain: Chain) -> None:
    wrap(chain, ALICE, OPEN)
    proposal = propose(chain)
    chain.warp(VOTING_DELAY + 1)
    wrap(chain, BOB, 1000 * OPEN)
    receipt = chain.send(BOB, "OpenGovernor", "castVote", proposal, 0)
    assert chain.events(receipt)[0][1]["weight"] == 0


def test_without_enough_votes_nobody_proposes(chain: Chain) -> None:
    why = chain.reverts(STRANGER, "OpenGovernor", "propose", *motion(chain), TEXT)
    assert why.startswith("GovernorInsufficientProposerVotes")


def test_nobody_votes_twice_or_before_the_start(chain: Chain) -> None:
    wrap(chain, ALICE, OPEN)
    proposal = propose(chain)
    why = chain.reverts(ALICE, "OpenGovernor", "castVote", proposal, 1)
    assert why.startswith("GovernorUnexpectedProposalState")
    chain.warp(VOTING_DELAY + 1)
    chain.send(ALICE, "OpenGovernor", "castVote", proposal, 1)
    why = chain.reverts(ALICE, "OpenGovernor", "castVote", proposal, 0)
    assert why.startswith("GovernorAlreadyCastVote")


def test_only_the_proposer_takes_a_proposal_back_and_only_before_the_vote(chain: Chain) -> None:
    wrap(chain, ALICE, OPEN)
    proposal = propose(chain)
    arguments = (*motion(chain), keccak256(TEXT.encode()))
    why = chain.reverts(BOB, "OpenGovernor", "cancel", *arguments)
    assert why.startswith("GovernorUnableToCancel")
    chain.send(ALICE, "OpenGovernor", "cancel", *arguments)
    assert state(chain, proposal) == CANCELED


@pytest.mark.parametrize("function", ["setVotingDelay", "setVotingPeriod", "setProposalThreshold"])
def test_the_governor_changes_only_by_its_own_decision(chain: Chain, function: str) -> None:
    why = chain.reverts(ALICE, "OpenGovernor", function, 1)
    assert why.startswith("GovernorOnlyExecutor")
