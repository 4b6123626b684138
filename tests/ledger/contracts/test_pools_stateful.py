"""Whatever people do with the pools, in whatever order: what is held covers what is owed.

The model beside the contract streams with exact fractions and rounds nothing, so a reward that it
and the contract disagree on by more than the contract's own rounding is a fault of the contract.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ledger.chain.client import Receipt
from tests.chain_fixtures import ALICE, BOB, CAROL, GUARDIAN, OPEN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import (
    BOND,
    COOLDOWN,
    DAY,
    EVIDENCE,
    FLEXIBLE,
    LOCKED,
    MODEL,
    PERIOD,
    POOLS,
    TERM,
    WINDOW,
    Position,
    as_timelock,
    position,
)

STEPS = int(os.environ.get("POOL_STEPS", "25"))
EXAMPLES = int(os.environ.get("POOL_EXAMPLES", "12"))
ZERO = Fraction(0)

pools = st.sampled_from([FLEXIBLE, LOCKED, MODEL])
people = st.sampled_from([ALICE, BOB, CAROL])
amounts = st.one_of(st.integers(1, 1000), st.integers(OPEN // 10, 1000 * OPEN))
shares = st.integers(1, 3_000)
parts = st.integers(1, 4)


@dataclass
class Stake:
    staked: int = 0
    cooling: int = 0
    held: int = 0
    earned: Fraction = ZERO


@dataclass
class Pool:
    """What a pool would be without rounding."""

    period: int = PERIOD
    left: Fraction = ZERO
    rate: Fraction = ZERO
    funded: int = 0
    claimed: int = 0
    at: int = 0
    # Each step of the contract rounds down a few times, by less than a wei each.
    steps: int = 0
    stakes: dict[str, Stake] = field(default_factory=lambda: {who: Stake() for who in PEOPLE})

    @property
    def staked(self) -> int:
        return sum(one.staked for one in self.stakes.values())

    def flow(self, now: int) -> None:
        if self.staked and self.left:
            flowed = min(self.left, self.rate * (now - self.at))
            self.left -= flowed
            whole = self.staked
            for one in self.stakes.values():
                one.earned += flowed * one.staked / whole
        self.at = now
        self.steps += 1

    def fund(self, amount: int) -> None:
        area = amount * self.period + (self.left**2 / self.rate if self.left else 0)
        self.left += amount
        self.rate = self.left**2 / area
        self.funded += amount


PEOPLE = (ALICE, BOB, CAROL)


class Pools(RuleBasedStateMachine):
    """One run: people act in blocks of their own, seconds to months apart."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain
        self.snapshot = chain.client.rpc("evm_snapshot")
        self.pools = {pool: Pool() for pool in (FLEXIBLE, LOCKED, MODEL)}
        self.slashed = self.bonds = self.forced = 0
        self.waiting: dict[tuple[bytes, str], int] = {}
        self.appealed: set[int] = set()

    def teardown(self) -> None:
        try:
            self.everybody_leaves()
        finally:
            self.chain.client.rpc("evm_revert", self.snapshot)

    # ----------------------------------------------------------------- acts

    def act(self, pool: bytes, who: str, function: str, *values: Any, value: int = 0) -> Receipt:
        receipt = self.chain.send(who, POOLS, function, *values, value=value)
        self.pools[pool].flow(self.chain.now())
        return receipt

    def look(self, pool: bytes, who: str) -> Position:
        return position(self.chain, pool, who)

    @initialize(amount=st.integers(OPEN, 1000 * OPEN))
    def something_streams_to_somebody_everywhere(self, amount: int) -> None:
        # Random paths seldom meet in one pool by themselves.
        for pool in self.pools:
            self.stakes(pool, ALICE, OPEN)
            self.funds(pool, amount, DAY)

    @rule(pool=pools, who=people, amount=amounts)
    def stakes(self, pool: bytes, who: str, amount: int) -> None:
        self.act(pool, who, "stake", pool, value=amount)
        self.pools[pool].stakes[who].staked += amount

    @rule(pool=pools, amount=amounts, seconds=st.integers(1, 3 * DAY))
    def funds(self, pool: bytes, amount: int, seconds: int) -> None:
        self.act(pool, OPERATOR, "fund", pool, value=amount)
        self.pools[pool].fund(amount)
        self.chain.warp(seconds)

    @rule(seconds=st.one_of(st.integers(1, 100), st.integers(DAY, TERM)))
    def time_passes(self, seconds: int) -> None:
        self.chain.warp(seconds)

    @rule(pool=pools, who=people, part=parts)
    def takes_out(self, pool: bytes, who: str, part: int) -> None:
        mine = self.pools[pool].stakes[who]
        amount = -(-mine.staked // part)
        why = self.chain.reverts(who, POOLS, "unstake", pool, amount)
        if why:
            assert why.split("(")[0] in {"ZeroAmount", "StillLocked", "HeldBySlash", "UnknownPool"}
            return
        self.act(pool, who, "unstake", pool, amount)
        mine.staked -= amount
        if pool != LOCKED:
            mine.cooling += amount

    @rule(pool=pools, who=people)
    def withdraws(self, pool: bytes, who: str) -> None:
        before = self.look(pool, who)
        why = self.chain.reverts(who, POOLS, "withdraw", pool)
        if why:
            assert why.split("(")[0] in {"StillLocked", "NothingToWithdraw"}
            return
        self.chain.send(who, POOLS, "withdraw", pool)
        self.pools[pool].stakes[who].cooling -= before.withdrawable

    @rule(pool=pools, who=people)
    def claims(self, pool: bytes, who: str) -> None:
        if self.chain.reverts(STRANGER, POOLS, "claim", pool, who):
            return
        receipt = self.act(pool, STRANGER, "claim", pool, who)
        paid = self.chain.events(receipt)[0][1]["amount"]
        self.pools[pool].claimed += paid
        self.pools[pool].stakes[who].earned -= paid

    @rule(pool=pools, period=st.sampled_from([1, 60, DAY, 30 * DAY]))
    def the_period_changes(self, pool: bytes, period: int) -> None:
        timelock = as_timelock(self.chain)
        if not self.chain.reverts(timelock, POOLS, "setPeriod", pool, period):
            self.chain.send(timelock, POOLS, "setPeriod", pool, period)
            self.pools[pool].period = period

    @rule(amount=st.integers(1, OPEN))
    def wei_are_forced_in(self, amount: int) -> None:
        address = self.chain.address(POOLS)
        held = self.chain.balance(address)
        self.chain.client.rpc("anvil_setBalance", address, hex(held + amount))
        self.forced += amount

    # ------------------------------------------------------------- slashing

    @rule(pool=pools, who=people, share=shares)
    def a_slash_is_proposed(self, pool: bytes, who: str, share: int) -> None:
        call = ("proposeSlash", pool, who, share, EVIDENCE)
        if self.chain.reverts(OPERATOR, POOLS, *call):
            return
        receipt = self.chain.send(OPERATOR, POOLS, *call)
        told = self.chain.events(receipt)[0][1]
        mine = self.pools[pool].stakes[who]
        assert told["amount"] == (mine.staked + mine.cooling) * share // 10_000
        assert 10_000 * told["amount"] <= 3_000 * (mine.staked + mine.cooling)
        mine.held = told["amount"]
        self.waiting[pool, who] = told["slashId"]

    @rule(pool=pools, who=people)
    def the_slashed_appeals(self, pool: bytes, who: str) -> None:
        number = self.waiting.get((pool, who), 0)
        call = ("appeal", number, b"\1" * 32)
        if number and not self.chain.reverts(who, POOLS, *call, value=BOND):
            self.chain.send(who, POOLS, *call, value=BOND)
            self.appealed.add(number)
            self.bonds += BOND

    @rule(pool=pools, who=people)
    def a_slash_is_carried_out(self, pool: bytes, who: str) -> None:
        number = self.waiting.get((pool, who), 0)
        if number and not self.chain.reverts(STRANGER, POOLS, "executeSlash", number):
            self.execute(pool, who, number)

    def execute(self, pool: bytes, who: str, number: int) -> None:
        before = self.look(pool, who)
        self.act(pool, STRANGER, "executeSlash", number)
        after = self.look(pool, who)
        assert after.withdrawable == before.withdrawable
        mine = self.pools[pool].stakes[who]
        lost = before.staked + before.cooling - after.staked - after.cooling
        assert lost == mine.held
        mine.staked, mine.cooling, mine.held = after.staked, after.cooling, 0
        bond = self.settle_bond(number)
        self.slashed += lost + bond
        del self.waiting[pool, who]

    @rule(pool=pools, who=people)
    def the_guardian_calls_a_slash_off(self, pool: bytes, who: str) -> None:
        number = self.waiting.pop((pool, who), 0)
        if number:
            self.chain.send(GUARDIAN, POOLS, "cancelSlash", number)
            bond = self.settle_bond(number)
            mine = self.pools[pool].stakes[who]
            mine.held = 0
            mine.earned += bond
            self.pools[pool].funded += bond

    def settle_bond(self, number: int) -> int:
        bond = BOND if number in self.appealed else 0
        self.appealed.discard(number)
        self.bonds -= bond
        return bond

    @rule()
    def what_was_slashed_is_collected(self) -> None:
        if self.slashed:
            self.chain.send(STRANGER, POOLS, "collectSlashed")
            self.slashed = 0

    # ----------------------------------------------------------- invariants

    @invariant()
    def what_is_held_covers_what_is_owed_to_the_wei(self) -> None:
        held, principal, rewards, slashed = self.chain.read(POOLS, "solvency")
        assert held == principal + rewards + slashed + self.forced
        assert slashed == self.slashed
        everyone = [one for pool in self.pools.values() for one in pool.stakes.values()]
        assert principal == sum(one.staked + one.cooling for one in everyone)
        fundings = sum(pool.funded - pool.claimed for pool in self.pools.values())
        assert rewards == fundings + self.bonds

    @invariant()
    def everyone_has_what_an_exact_stream_gives_less_rounding_and_never_more_than_is_there(
        self,
    ) -> None:
        now = self.chain.now()
        for pool_id, pool in self.pools.items():
            pool.flow(now)
            said = {who: self.look(pool_id, who) for who in PEOPLE}
            left = self.chain.read(POOLS, "stream", pool_id)[1]
            owed = sum(one.earned for one in said.values()) + left
            assert owed <= pool.funded - pool.claimed
            # Nothing vanishes but fractions of a wei, in each step and for each stake.
            assert pool.funded - pool.claimed - owed <= 2 * pool.steps + 3
            for who, one in said.items():
                mine = pool.stakes[who]
                assert (one.staked, one.cooling, one.held) == (mine.staked, mine.cooling, mine.held)
                slack = 2 * pool.steps + 3
                assert abs(one.earned - mine.earned) <= slack

    # --------------------------------------------------------------- the end

    def everybody_leaves(self) -> None:
        """No path ends where somebody cannot get out what is theirs."""
        self.chain.warp(2 * WINDOW)
        for (pool, who), number in list(self.waiting.items()):
            self.execute(pool, who, number)
        self.chain.warp(TERM)
        for pool, who in self.everyone(lambda one: one.staked):
            self.takes_out(pool, who, 1)
        self.chain.warp(COOLDOWN)
        for pool, who in self.everyone(lambda one: one.cooling):
            self.withdraws(pool, who)
        for pool in self.pools:
            for who in PEOPLE:
                self.claims(pool, who)
        self.what_was_slashed_is_collected()
        self.what_is_held_covers_what_is_owed_to_the_wei()
        assert self.chain.read(POOLS, "solvency")[1] == 0

    def everyone(self, has: Callable[[Stake], int]) -> list[tuple[bytes, str]]:
        return [
            (pool, who)
            for pool, state in self.pools.items()
            for who, one in state.stakes.items()
            if has(one)
        ]


def test_the_pools_are_solvent_and_fair_on_any_path(chain: Chain) -> None:
    run_state_machine_as_test(
        lambda: Pools(chain),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
