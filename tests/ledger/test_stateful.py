"""The ledger against a model in memory: whatever is done in whatever order, they agree."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from accounts.ids import uuid7
from ledger.errors import HoldClosed, HoldExpired, InsufficientFunds, InvalidAmount, LedgerError
from ledger.models import Account, Hold
from ledger.reconciliation import check_ledger
from ledger.services.distributions import publish_distribution
from ledger.services.holds import Refs, release_expired_holds, release_hold
from ledger.services.settlement import Credit, settle_suspense
from ledger.services.transfers import make_earnings_spendable
from ledger.splits import divide
from tests.ledger.books import NOON, SPLIT, capture, fund, hold_for, link, person

AMOUNTS = st.integers(1, 2_000)
PEOPLE = st.integers(0, 2)
WEIGHTS = st.lists(st.integers(0, 9), min_size=3, max_size=3)
WHOLE = 10**9
EXAMPLES, STEPS = 340, 100


class Books(RuleBasedStateMachine):
    """Three people pay, earn, publish and spend; the model is a dict of balances."""

    steps = 0
    holds = Bundle("holds")
    captured = Bundle("captured")

    @initialize()
    def people_with_money(self):
        self.now = NOON
        self.number = 0
        self.people = [person(f"person-{uuid7().hex[-12:]}") for _ in range(3)]
        self.user = dict.fromkeys(range(3), 0)
        self.earnings = dict.fromkeys(range(3), 0)
        self.held = dict.fromkeys(range(3), 0)
        self.escrow = self.platform = self.stakers = 0
        self.suspense = {}
        self.linked = set()
        for who in range(3):
            self.deposit(who, 1_000)

    @rule(who=PEOPLE, amount=AMOUNTS)
    def deposit(self, who, amount):
        self.number += 1
        for _ in range(2):
            fund(self.people[who], amount, self.number)
        self.user[who] += amount

    @rule(target=holds, who=PEOPLE, amount=AMOUNTS, hours=st.integers(1, 3), owner=PEOPLE)
    def open(self, who, amount, hours, owner):
        values = {"expires_at": self.now + timedelta(hours=hours), "at": self.now}
        values["model_owner"] = self.people[owner]
        if amount > self.user[who]:
            with pytest.raises(InsufficientFunds), transaction.atomic():
                hold_for(self.people[who], amount, **values)
            return None
        hold = hold_for(self.people[who], amount, **values)
        self.user[who] -= amount
        self.held[who] += amount
        return (who, hold, owner)

    @rule(target=captured, item=holds, amount=AMOUNTS, tuned=st.booleans())
    def take(self, item, amount, tuned):
        if item is None:
            return None
        who, hold, owner = item
        hold.refresh_from_db()
        refs = Refs(model=hold.payer_id if tuned else None, completion=hold.cause_id)
        arguments = {"refs": refs}
        if hold.state != Hold.State.PENDING:
            self.refused(hold, amount, arguments)
            return None
        if self.expired(hold) or amount > hold.amount:
            with pytest.raises((HoldExpired, InvalidAmount)), transaction.atomic():
                capture(hold, amount, at=self.now, **arguments)
            return None
        capture(hold, amount, at=self.now, **arguments)
        self.held[who] -= hold.amount
        self.user[who] += hold.amount - amount
        parts = SPLIT.amounts(amount)
        self.stakers += parts["stakers"]
        self.platform += parts["platform"]
        self.earnings[owner] += parts["model_owner"]
        if not tuned:
            self.platform += parts["contributors"]
            return None
        self.suspense[hold.cause_id] = parts["contributors"]
        return hold.cause_id

    def refused(self, hold, amount, arguments):
        """A closed hold is captured again only with the very same values; it moves nothing."""
        try:
            with transaction.atomic():
                capture(hold, amount, at=self.now, **arguments)
        except LedgerError:
            return
        assert hold.state == Hold.State.CAPTURED
        assert hold.captured == amount

    @rule(item=holds)
    def release(self, item):
        if item is None:
            return
        who, hold, _ = item
        hold.refresh_from_db()
        arguments = {"hold": hold, "reason": "It failed.", "acting_user": None, "at": self.now}
        if hold.state == Hold.State.CAPTURED:
            with pytest.raises(HoldClosed), transaction.atomic():
                release_hold(**arguments)
            return
        release_hold(**arguments)
        if hold.state == Hold.State.PENDING:
            self.give_back(who, hold)

    @rule(completion=consumes(captured), weights=WEIGHTS)
    def settle(self, completion, weights):
        if completion is None:
            return
        amount = self.suspense.pop(completion)
        credits = self.credits(weights)
        for _ in range(2):
            settle_suspense(completion_id=completion, credits=credits, at=self.now)
        if not credits:
            self.platform += amount
            return
        paid = divide(amount, [(credit.key, credit.share_ppb) for credit in credits])
        for who, credit in enumerate(credits):
            self.earnings[who] += paid[credit.key]

    def credits(self, weights):
        if not any(weights):
            return []
        shares = divide(WHOLE, [(str(who), weight) for who, weight in enumerate(weights)])
        return [
            Credit("contributor", user.pk, shares[str(who)]) for who, user in enumerate(self.people)
        ]

    @rule(who=PEOPLE, amount=AMOUNTS)
    def spend_earnings(self, who, amount):
        self.number += 1
        arguments = {
            "user": self.people[who],
            "amount": amount,
            "key": str(self.number),
            "acting_user": None,
            "at": self.now,
        }
        if amount > self.earnings[who]:
            with pytest.raises(InsufficientFunds), transaction.atomic():
                make_earnings_spendable(**arguments)
            return
        for _ in range(2):
            make_earnings_spendable(**arguments)
        self.earnings[who] -= amount
        self.user[who] += amount

    @rule(who=PEOPLE)
    def link_a_wallet(self, who):
        link(self.people[who], f"0x{uuid7().int % 2**160:040x}")
        self.linked.add(who)

    @rule()
    def publish(self):
        made = publish_distribution(at=self.now, acting_user=None)
        moved = sum(self.earnings[who] for who in self.linked)
        assert (made.amount if made else 0) == moved
        self.escrow += moved
        for who in self.linked:
            self.earnings[who] = 0

    @rule()
    def an_hour_passes(self):
        self.now += timedelta(hours=1)
        for hold in Hold.objects.filter(state=Hold.State.PENDING, expires_at__lte=self.now):
            who = next(n for n, user in enumerate(self.people) if user.pk == hold.payer_id)
            self.give_back(who, hold)
        release_expired_holds(at=self.now)

    def give_back(self, who, hold):
        self.held[who] -= hold.amount
        self.user[who] += hold.amount

    def expired(self, hold):
        return hold.expires_at <= self.now

    @invariant()
    def ledger_and_model_agree(self):
        if not hasattr(self, "people"):
            return
        Books.steps += 1
        model = {("ESCROW", None): self.escrow, ("PLATFORM", None): self.platform}
        model["STAKERS", None] = self.stakers
        model |= {("SUSPENSE", completion): wei for completion, wei in self.suspense.items()}
        for who, user in enumerate(self.people):
            model["USER", user.pk] = self.user[who]
            model["EARNINGS", user.pk] = self.earnings[who]
            model["HOLD", user.pk] = self.held[who]
        assert self.balances() == {name: wei for name, wei in model.items() if wei}

    def balances(self):
        """What every account inside the house holds, by kind and owner; shards are added up."""
        rows = Account.objects.exclude(kind__in=Account.EXTERNAL).exclude(balance=0)
        found = {}
        for kind, owner, balance in rows.values_list("kind", "owner_id", "balance"):
            found[kind, owner] = found.get((kind, owner), 0) + balance
        return found

    def teardown(self):
        connection.check_constraints()
        assert [finding for finding in check_ledger() if not finding.holds] == []


class Isolated(Books):
    """Each example in a transaction of its own, which is taken back at its end."""

    def __init__(self):
        super().__init__()
        self.outer = transaction.atomic()
        self.outer.__enter__()

    def teardown(self):
        try:
            super().teardown()
        finally:
            transaction.set_rollback(True)
            self.outer.__exit__(None, None, None)


class TestBooks(TestCase):
    # Two minutes on a quiet machine; on a busy one it is slow, not wrong.
    @pytest.mark.timeout(1200)
    def test_ledger_and_model_agree_after_25_000_steps(self):
        Books.steps = 0
        run_state_machine_as_test(
            Isolated,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert Books.steps >= 25_000
