"""On any path of fundings, roots, revocations and claims: claimed <= total <= funded."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ledger.chain.distribution import Tree
from tests.chain_fixtures import ALICE, BOB, CAROL, GUARDIAN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import as_timelock, claim_arguments, publish_arguments, tree_of

NAME = "RewardDistributor"
people = st.sampled_from([ALICE, BOB, CAROL])
amounts = st.integers(1, 10**20)


class Distributor(RuleBasedStateMachine):
    """What the ledger, the guardian, strangers and a faulty publisher may do, one block each."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain
        self.snapshot = chain.client.rpc("evm_snapshot")
        self.earned: dict[str, int] = {}
        self.had: dict[str, int] = {}
        self.funded = self.total = self.epoch = 0
        self.tree: Tree | None = None
        self.pending: tuple[Tree, int] | None = None
        self.trees: list[Tree] = []

    def teardown(self) -> None:
        self.chain.client.rpc("evm_revert", self.snapshot)

    def send(self, sender: str, function: str, *values: Any) -> None:
        self.chain.send(sender, NAME, function, *values)

    def refused(self, sender: str, function: str, *values: Any) -> str:
        return self.chain.reverts(sender, NAME, function, *values)

    @rule(amount=amounts)
    def somebody_funds(self, amount: int) -> None:
        self.chain.transfer(OPERATOR, self.chain.address(NAME), amount)
        self.funded += amount

    @rule(who=people, amount=amounts)
    def somebody_earns(self, who: str, amount: int) -> None:
        self.earned[who] = self.earned.get(who, 0) + amount

    @rule(inflated=st.booleans())
    def a_root_is_published(self, inflated: bool) -> None:
        """`inflated`: the publisher's tree adds up to more than the total that it states."""
        if not self.earned:
            return
        owed = {who: amount * 3 for who, amount in self.earned.items()} if inflated else self.earned
        tree = tree_of(self.chain, owed)
        total = max(self.total, sum(self.earned.values()))
        _, _, root, data_hash = publish_arguments(self.chain, tree, 0)
        why = self.refused(OPERATOR, "publish", self.epoch + 1, total, root, data_hash)
        claimed = sum(self.had.values())
        if self.pending:
            assert why.startswith("RootPending")
        elif self.funded - claimed < total - claimed:
            assert why.startswith("Insolvent")
        else:
            assert why == ""
            delayed = self.chain.read(NAME, "delay") > 0
            self.send(OPERATOR, "publish", self.epoch + 1, total, root, data_hash)
            self.pending = (tree, total)
            if not delayed:
                self.in_force()

    def in_force(self) -> None:
        assert self.pending
        self.tree, self.total = self.pending
        self.trees.append(self.tree)
        self.epoch, self.pending = self.epoch + 1, None

    @rule()
    def the_pending_root_is_activated(self) -> None:
        self.chain.warp(11)
        if self.pending is None:
            assert self.refused(STRANGER, "activate") == "NothingPending()"
            return
        self.send(STRANGER, "activate")
        self.in_force()

    @rule()
    def the_guardian_revokes(self) -> None:
        if self.pending:
            self.send(GUARDIAN, "revoke")
            self.pending = None

    @rule(delay=st.sampled_from([0, 10]))
    def the_delay_changes(self, delay: int) -> None:
        self.send(as_timelock(self.chain), "setDelay", delay)

    @rule(who=people, old=st.booleans())
    def somebody_claims(self, who: str, old: bool) -> None:
        if not self.trees:
            return
        tree = self.trees[0] if old else self.trees[-1]
        try:
            arguments = claim_arguments(tree, who)
        except KeyError:
            return
        before = self.chain.balance(who)
        why = self.refused(STRANGER, "claim", *arguments)
        if why:
            assert why.split("(")[0] in {"WrongProof", "NothingToClaim", "OverTotal"}
            return
        self.send(STRANGER, "claim", *arguments)
        cumulative = int(str(arguments[1]))
        assert self.chain.balance(who) - before == cumulative - self.had.get(who, 0)
        assert cumulative > self.had.get(who, 0)
        self.had[who] = cumulative

    @invariant()
    def claimed_is_at_most_the_total_and_the_total_at_most_what_was_funded(self) -> None:
        claimed, total = self.chain.read(NAME, "totalClaimed"), self.chain.read(NAME, "total")
        assert claimed == sum(self.had.values())
        assert claimed <= total == self.total <= self.funded
        assert self.chain.balance(self.chain.address(NAME)) == self.funded - claimed
        assert self.chain.read(NAME, "epoch") == self.epoch
        assert self.chain.read(NAME, "hasPending") == (self.pending is not None)

    @invariant()
    def nobodys_cumulative_amount_falls(self) -> None:
        for who, cumulative in self.had.items():
            assert self.chain.read(NAME, "claimed", who) == cumulative


def test_the_distributor_never_owes_more_than_it_holds_on_any_path(chain: Chain) -> None:
    run_state_machine_as_test(
        lambda: Distributor(chain),
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
