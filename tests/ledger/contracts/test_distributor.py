"""The distributor pays each wei once, to the account of the leaf, and only what it holds."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.chain.local import DEV_ADDRESSES
from tests.chain_fixtures import ALICE, BOB, CAROL, GUARDIAN, OPEN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import (
    REFUSES,
    as_timelock,
    claim,
    claim_arguments,
    fund,
    publish,
    publish_arguments,
    tree_of,
)

NAME = "RewardDistributor"
FRESH = "0x00000000000000000000000000000000000A11cE"


def test_a_claim_pays_exactly_what_the_leaf_says(chain: Chain) -> None:
    fund(chain, 5 * OPEN)
    tree = publish(chain, {ALICE: 2 * OPEN, FRESH: 3 * OPEN}, 1)

    receipt = claim(chain, tree, FRESH, sender=STRANGER)

    assert chain.balance(FRESH) == 3 * OPEN
    assert chain.events(receipt) == [
        ("Claimed", {"account": FRESH, "amount": 3 * OPEN, "cumulative": 3 * OPEN})
    ]


def test_a_second_claim_is_refused_and_pays_nothing(chain: Chain) -> None:
    fund(chain, 5 * OPEN)
    tree = publish(chain, {ALICE: 2 * OPEN, FRESH: 3 * OPEN}, 1)
    claim(chain, tree, FRESH, sender=STRANGER)
    why = chain.reverts(STRANGER, NAME, "claim", *claim_arguments(tree, FRESH))
    assert why.startswith("NothingToClaim")


def test_a_later_epoch_pays_the_difference(chain: Chain) -> None:
    fund(chain, 5 * OPEN)
    first = publish(chain, {FRESH: 1 * OPEN}, 1)
    claim(chain, first, FRESH, sender=STRANGER)
    second = publish(chain, {FRESH: 4 * OPEN, BOB: OPEN}, 2)
    claim(chain, second, FRESH, sender=STRANGER)
    assert chain.balance(FRESH) == 4 * OPEN
    assert chain.read(NAME, "totalClaimed") == 4 * OPEN


def test_the_root_before_no_longer_pays(chain: Chain) -> None:
    fund(chain, 5 * OPEN)
    first = publish(chain, {ALICE: OPEN, BOB: OPEN}, 1)
    publish(chain, {ALICE: 2 * OPEN, BOB: OPEN}, 2)
    why = chain.reverts(ALICE, NAME, "claim", *claim_arguments(first, BOB))
    assert why.startswith("WrongProof")


def test_anothers_proof_or_a_larger_amount_is_refused(chain: Chain) -> None:
    fund(chain, 5 * OPEN)
    tree = publish(chain, {ALICE: 2 * OPEN, BOB: 3 * OPEN}, 1)
    proof = list(tree.claim(ALICE).proof)
    for account, amount in ((BOB, 2 * OPEN), (CAROL, 2 * OPEN), (ALICE, 3 * OPEN)):
        why = chain.reverts(STRANGER, NAME, "claim", account, amount, proof)
        assert why.startswith("WrongProof")


def test_a_root_that_the_contract_cannot_pay_is_refused(chain: Chain) -> None:
    fund(chain, OPEN)
    arguments = publish_arguments(chain, tree_of(chain, {ALICE: OPEN + 1}), 1)
    assert chain.reverts(OPERATOR, NAME, "publish", *arguments).startswith("Insolvent")


@pytest.mark.parametrize("epoch", [0, 2, 7])
def test_an_epoch_that_is_not_the_next_is_refused(chain: Chain, epoch: int) -> None:
    fund(chain, OPEN)
    arguments = publish_arguments(chain, tree_of(chain, {ALICE: OPEN}), epoch)
    assert chain.reverts(OPERATOR, NAME, "publish", *arguments).startswith("WrongEpoch")


def test_a_total_that_falls_is_refused(chain: Chain) -> None:
    fund(chain, 2 * OPEN)
    publish(chain, {ALICE: 2 * OPEN}, 1)
    arguments = publish_arguments(chain, tree_of(chain, {ALICE: OPEN}), 2)
    assert chain.reverts(OPERATOR, NAME, "publish", *arguments).startswith("TotalFell")


def test_an_empty_root_is_refused(chain: Chain) -> None:
    why = chain.reverts(OPERATOR, NAME, "publish", 1, 0, b"\0" * 32, b"\0" * 32)
    assert why == "EmptyRoot()"


def test_a_tree_above_its_total_cannot_pay_one_with_anothers_money(chain: Chain) -> None:
    fund(chain, 2 * OPEN)
    tree = tree_of(chain, {ALICE: 2 * OPEN, BOB: 2 * OPEN})
    chain.send(OPERATOR, NAME, "publish", 1, 2 * OPEN, tree.root, b"\1" * 32)
    claim(chain, tree, ALICE, sender=STRANGER)
    why = chain.reverts(STRANGER, NAME, "claim", *claim_arguments(tree, BOB))
    assert why.startswith("OverTotal")


def test_a_recipient_that_refuses_keeps_its_claim(chain: Chain) -> None:
    fund(chain, OPEN)
    tree = publish(chain, {FRESH: OPEN}, 1)
    chain.install_code(FRESH, REFUSES)
    why = chain.reverts(STRANGER, NAME, "claim", *claim_arguments(tree, FRESH))
    assert why.startswith("TransferFailed")
    chain.install_code(FRESH, "0x")
    claim(chain, tree, FRESH, sender=STRANGER)
    assert chain.balance(FRESH) == OPEN


@pytest.mark.parametrize("sender", [ALICE, GUARDIAN, STRANGER])
def test_only_the_publisher_publishes(chain: Chain, sender: str) -> None:
    arguments = publish_arguments(chain, tree_of(chain, {ALICE: 1}), 1)
    why = chain.reverts(sender, NAME, "publish", *arguments)
    assert why.startswith("AccessControlUnauthorizedAccount")


@pytest.mark.parametrize("sender", [ALICE, OPERATOR, GUARDIAN])
def test_only_the_timelock_sets_the_delay(chain: Chain, sender: str) -> None:
    why = chain.reverts(sender, NAME, "setDelay", 60)
    assert why.startswith("AccessControlUnauthorizedAccount")


def test_a_delay_has_a_limit(chain: Chain) -> None:
    why = chain.reverts(chain.address("Timelock"), NAME, "setDelay", 31 * 86_400)
    assert why.startswith("DelayTooLong")


def delayed(chain: Chain, seconds: int = 60) -> None:
    chain.send(as_timelock(chain), NAME, "setDelay", seconds)


def test_with_a_delay_a_root_waits_and_anyone_activates_it(chain: Chain) -> None:
    delayed(chain)
    fund(chain, OPEN)
    tree = publish(chain, {ALICE: OPEN}, 1)
    assert chain.read(NAME, "epoch") == 0
    assert chain.reverts(STRANGER, NAME, "activate").startswith("TooEarly")
    chain.warp(61)
    chain.send(STRANGER, NAME, "activate")
    assert chain.read(NAME, "root") == tree.root
    assert chain.reverts(STRANGER, NAME, "activate") == "NothingPending()"


def test_a_pending_root_cannot_be_overwritten_but_the_guardian_revokes_it(chain: Chain) -> None:
    delayed(chain)
    fund(chain, OPEN)
    publish(chain, {ALICE: OPEN}, 1)
    other = publish_arguments(chain, tree_of(chain, {BOB: OPEN}), 1)
    assert chain.reverts(OPERATOR, NAME, "publish", *other).startswith("RootPending")
    for sender in (OPERATOR, ALICE):
        why = chain.reverts(sender, NAME, "revoke")
        assert why.startswith("AccessControlUnauthorizedAccount")
    chain.send(GUARDIAN, NAME, "revoke")
    assert chain.reverts(GUARDIAN, NAME, "revoke") == "NothingPending()"
    chain.send(OPERATOR, NAME, "publish", *other)


def test_the_guardian_stops_claims_and_only_the_timelock_allows_them_again(chain: Chain) -> None:
    fund(chain, OPEN)
    tree = publish(chain, {FRESH: OPEN}, 1)
    chain.send(GUARDIAN, NAME, "setPaused", True)
    why = chain.reverts(STRANGER, NAME, "claim", *claim_arguments(tree, FRESH))
    assert why == "ClaimsPaused()"
    for sender in (GUARDIAN, OPERATOR):
        why = chain.reverts(sender, NAME, "setPaused", False)
        assert why.startswith("AccessControlUnauthorizedAccount")
    chain.send(as_timelock(chain), NAME, "setPaused", False)
    claim(chain, tree, FRESH, sender=STRANGER)


steps = st.lists(
    st.tuples(st.sampled_from(DEV_ADDRESSES[2:8]), st.integers(1, 10**20), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_no_path_pays_more_than_the_total_and_what_is_held_covers_the_rest(
    chain: Chain, path: list[tuple[str, int, bool]]
) -> None:
    snapshot = chain.client.rpc("evm_snapshot")
    owed: dict[str, int] = {}
    for epoch, (account, amount, claims) in enumerate(path, start=1):
        fund(chain, amount)
        owed[account] = owed.get(account, 0) + amount
        tree = publish(chain, owed, epoch)
        if claims:
            claim(chain, tree, account, sender=STRANGER)
        total, claimed = chain.read(NAME, "total"), chain.read(NAME, "totalClaimed")
        assert claimed <= total == sum(owed.values())
        assert chain.balance(chain.address(NAME)) == total - claimed
    chain.client.rpc("evm_revert", snapshot)
