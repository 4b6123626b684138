"""What holders do on the chain stands in our tables, and goes with its blocks."""

from __future__ import annotations

import pytest
from django.utils import timezone

from governance import selectors
from governance.models import (
    Delegation,
    ParameterVersion,
    PowerCheckpoint,
    Proposal,
    ProposalState,
    TokenBalance,
    Vote,
)
from governance.services import projection
from tests.chain_fixtures import ALICE, BOB, CAROL, OPEN
from tests.governance.holders import NEW_SPLIT, Holders

State = ProposalState


def state_of(proposal: Proposal) -> ProposalState:
    proposal.refresh_from_db()
    return selectors.standing(proposal).state


def on_chain_state(holders: Holders, proposal: Proposal) -> str:
    number = holders.chain.read("OpenGovernor", "state", int(proposal.number))
    return list(State)[number].value


def parts() -> dict[str, int]:
    return {part.kind: part.basis_points for part in selectors.current_split().parts}


def checkpoints() -> list[tuple[str, int, int]]:
    rows = PowerCheckpoint.objects.order_by("address", "second", "votes")
    return list(rows.values_list("address", "second", "votes"))


def test_a_proposal_changes_the_split_once_its_block_is_final(holders: Holders) -> None:
    holders.wrap(ALICE, 100 * OPEN)
    assert selectors.current_split().version == 1
    proposal = holders.propose()
    holders.open_vote()
    holders.vote(ALICE, proposal, 1, "fair")
    holders.close_vote()
    holders.later("queue")
    holders.pass_timelock()
    holders.later("execute")

    holders.worker.index()
    projection.mirror(at=timezone.now())
    assert ParameterVersion.objects.get(version=2).state == ParameterVersion.State.SEEN
    assert selectors.current_split().version == 1
    assert selectors.pending_version() is not None

    holders.mirror()
    assert selectors.current_split().version == 2
    assert parts() == NEW_SPLIT
    version = ParameterVersion.objects.get(version=2)
    assert version.proposal == proposal
    assert {change["key"] for change in version.changed} == {"split.platform", "split.model_owner"}
    assert selectors.split_of_version(1) == selectors.Split(1, selectors.DEFAULT_PARTS)


def test_the_state_agrees_with_the_governor_at_every_step(holders: Holders) -> None:
    seen = []

    def look(proposal: Proposal) -> None:
        holders.mirror()
        assert state_of(proposal) == on_chain_state(holders, proposal)
        seen.append(state_of(proposal))

    holders.wrap(ALICE, 100 * OPEN)
    proposal = holders.propose()
    look(proposal)
    holders.open_vote()
    holders.vote(ALICE, proposal, 1)
    look(proposal)
    holders.close_vote()
    look(proposal)
    holders.later("queue")
    look(proposal)
    holders.pass_timelock()
    holders.later("execute")
    look(proposal)
    assert seen == [State.PENDING, State.ACTIVE, State.SUCCEEDED, State.QUEUED, State.EXECUTED]


@pytest.mark.parametrize(
    ("votes", "state"),
    [
        ({ALICE: 0, BOB: 1}, State.DEFEATED),
        ({CAROL: 1}, State.DEFEATED),
        ({BOB: 2, CAROL: 1}, State.SUCCEEDED),
        ({}, State.DEFEATED),
    ],
)
def test_majority_and_quorum_decide(holders: Holders, votes, state: ProposalState) -> None:
    for holder, amount in ((ALICE, 60 * OPEN), (BOB, 38 * OPEN), (CAROL, 2 * OPEN)):
        holders.wrap(holder, amount)
    proposal = holders.propose()
    holders.open_vote()
    for holder, support in votes.items():
        holders.vote(holder, proposal, support)
    holders.close_vote()
    holders.mirror()
    assert state_of(proposal) == state == on_chain_state(holders, proposal)


def test_a_proposal_that_was_taken_back_is_canceled(holders: Holders) -> None:
    holders.wrap(ALICE, 10 * OPEN)
    proposal = holders.propose()
    holders.later("cancel")
    holders.mirror()
    assert state_of(proposal) == State.CANCELED == on_chain_state(holders, proposal)


def test_votes_are_kept_with_weight_and_reason(holders: Holders) -> None:
    holders.wrap(ALICE, 3 * OPEN)
    holders.wrap(BOB, 2 * OPEN)
    proposal = holders.propose()
    holders.open_vote()
    holders.vote(ALICE, proposal, 1, "because")
    holders.vote(BOB, proposal, 0)
    holders.mirror()
    proposal.refresh_from_db()
    assert (proposal.votes_for, proposal.votes_against) == (3 * OPEN, 2 * OPEN)
    assert Vote.objects.get(voter=ALICE).reason == "because"


def test_balances_delegates_and_powers_follow_the_token(holders: Holders) -> None:
    holders.wrap(ALICE, 5 * OPEN, delegate=BOB)
    holders.chain.send(ALICE, "GovernanceToken", "withdraw", 2 * OPEN)
    holders.chain.send(ALICE, "GovernanceToken", "transfer", CAROL, OPEN)
    holders.mirror()
    assert TokenBalance.objects.get(address=ALICE).balance == 2 * OPEN
    assert TokenBalance.objects.get(address=CAROL).balance == OPEN
    assert Delegation.objects.get(delegator=ALICE).delegate == BOB
    (alice,) = selectors.holdings([ALICE])
    (bob,) = selectors.holdings([BOB])
    assert (alice.votes, bob.votes) == (0, 2 * OPEN)
    assert selectors.supply_now() == 3 * OPEN
    assert bob.votes == holders.chain.read("GovernanceToken", "getVotes", BOB)


def test_the_quorum_is_what_the_contract_says(holders: Holders) -> None:
    holders.wrap(ALICE, 333 * OPEN + 7)
    proposal = holders.propose()
    holders.open_vote()
    holders.wrap(BOB, 1000 * OPEN)
    holders.mirror()
    standing = selectors.standing(proposal)
    on_chain = holders.chain.read("OpenGovernor", "quorum", proposal.snapshot)
    assert standing.quorum == on_chain == (333 * OPEN + 7) * 4 // 100


def test_mirroring_twice_changes_nothing(holders: Holders) -> None:
    holders.wrap(ALICE, 5 * OPEN)
    holders.propose()
    before = checkpoints()
    assert projection.mirror(at=timezone.now()) == 0
    projection.rebuild(at=timezone.now())
    assert checkpoints() == before
    assert Proposal.objects.count() == 1
    assert selectors.current_split().version == 1


def test_a_reorganisation_takes_a_proposal_away(late_finality: object, holders: Holders) -> None:
    holders.wrap(ALICE, 5 * OPEN)
    holders.mirror()
    snapshot = holders.chain.client.rpc("evm_snapshot")
    holders.propose()
    assert Proposal.objects.count() == 1

    holders.chain.client.rpc("evm_revert", snapshot)
    holders.chain.warp(11)
    holders.chain.mine(8)
    holders.worker.index()
    projection.rebuild(at=timezone.now())

    assert not Proposal.objects.exists()
    assert TokenBalance.objects.get(address=ALICE).balance == 5 * OPEN


def test_without_a_chain_the_defaults_are_in_force(db, settings) -> None:
    settings.CHAIN_ENABLED = False
    assert selectors.current_split() == selectors.DEFAULT_SPLIT
    assert selectors.current_parameters().version == 0
    assert selectors.split_of_version(0) == selectors.DEFAULT_SPLIT
