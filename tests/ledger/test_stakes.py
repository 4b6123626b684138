"""Stakes and bonds: locked, given back, slashed; once, and never more than was locked."""

from collections import Counter

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.ids import uuid7
from accounts.models import AuditEvent
from ledger.errors import IdempotencyConflict, InsufficientFunds, InvalidAmount, StakeClosed
from ledger.models import Account, Entry, Stake
from ledger.reconciliation import check_ledger
from ledger.services.posting import Cause
from ledger.services.stakes import lock_stake, return_stake, slash_stake
from tests.ledger.books import NOON, OPEN, balance_of, fund, person

DATANET = uuid7()


def lock(user, amount=OPEN, **changes):
    values = {
        "staker": user,
        "amount": amount,
        "cause_kind": "contribution",
        "cause_id": uuid7(),
        "acting_user": user,
        "at": NOON,
    }
    return lock_stake(**values | changes)


def slash(stake, amount, cause=None):
    return slash_stake(
        stake=stake,
        amount=amount,
        treasury_of=DATANET,
        cause=cause or Cause("slash", uuid7()),
        acting_user=None,
        at=NOON,
    )


def give_back(stake):
    return return_stake(stake=stake, acting_user=None, at=NOON)


def test_a_stake_leaves_the_spendable_balance_and_comes_back_whole(payer):
    stake = lock(payer, 3 * OPEN)
    assert balance_of(Account.Kind.USER, payer.pk) == 7 * OPEN
    assert balance_of(Account.Kind.STAKE, stake.pk) == 3 * OPEN
    entry = give_back(stake)
    assert give_back(stake) == entry
    stake.refresh_from_db()
    assert (stake.state, stake.returned, stake.left) == ("CLOSED", 3 * OPEN, 0)
    assert balance_of(Account.Kind.USER, payer.pk) == 10 * OPEN
    verbs = Counter(AuditEvent.objects.filter(target_id=stake.pk).values_list("verb", flat=True))
    assert verbs == {"ledger.stake_locked": 1, "ledger.stake_returned": 1}


def test_a_slash_goes_to_the_treasury_and_the_rest_comes_back(payer):
    stake = lock(payer, 3 * OPEN)
    cause = Cause("slash", uuid7())
    entry = slash(stake, OPEN, cause)
    assert slash(stake, OPEN, cause) == entry
    assert balance_of(Account.Kind.TREASURY, DATANET) == OPEN
    give_back(stake)
    assert balance_of(Account.Kind.USER, payer.pk) == 9 * OPEN
    with pytest.raises(StakeClosed):
        slash(stake, 1)


def test_the_same_slash_with_another_amount_is_refused(payer):
    stake = lock(payer)
    cause = Cause("slash", uuid7())
    slash(stake, 5, cause)
    with pytest.raises(IdempotencyConflict):
        slash(stake, 6, cause)
    assert balance_of(Account.Kind.TREASURY, DATANET) == 5


def test_a_stake_slashed_whole_is_closed_and_nothing_comes_back(payer):
    stake = lock(payer)
    slash(stake, OPEN)
    stake.refresh_from_db()
    assert (stake.state, stake.slashed, stake.returned) == ("CLOSED", OPEN, 0)
    with pytest.raises(StakeClosed):
        give_back(stake)


@pytest.mark.parametrize("amount", [0, -1, 1.5, True, 2**256])
def test_it_refuses_what_is_no_amount(payer, amount):
    before = Entry.objects.count()
    with pytest.raises(InvalidAmount):
        lock(payer, amount)
    stake = lock(payer)
    with pytest.raises(InvalidAmount):
        slash(stake, amount)
    assert Entry.objects.count() == before + 1


def test_nobody_stakes_more_than_they_have_and_no_slash_takes_more_than_is_left(payer):
    with pytest.raises(InsufficientFunds):
        lock(payer, 11 * OPEN)
    stake = lock(payer, 10)
    slash(stake, 4)
    with pytest.raises(InvalidAmount):
        slash(stake, 7)
    assert not Stake.objects.filter(slashed__gt=4).exists()


def test_one_cause_has_one_locked_stake_and_may_have_another_later(payer):
    cause = uuid7()
    first = lock(payer, cause_id=cause)
    with pytest.raises(IntegrityError), transaction.atomic():
        lock(payer, cause_id=cause)
    assert balance_of(Account.Kind.USER, payer.pk) == 9 * OPEN
    give_back(first)
    assert lock(payer, cause_id=cause) != first


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 2},
        {"slashed": 2 * OPEN},
        {"returned": 1},
        {"state": "CLOSED"},
        {"cause_id": uuid7()},
    ],
)
def test_the_database_itself_refuses_a_stake_that_does_not_add_up(payer, change):
    stake = lock(payer)
    with pytest.raises(Exception, match=r"ledger_stake|keeps_its_terms|Cannot update"):
        Stake.objects.filter(pk=stake.pk).update(**change)


class TestAnyOrder(TestCase):
    @settings(max_examples=40, deadline=None)
    @given(
        amount=st.integers(1, 10**24),
        steps=st.lists(st.one_of(st.none(), st.integers(0, 10**24)), max_size=6),
    )
    def test_no_order_of_slashes_and_returns_loses_or_makes_a_wei(self, amount, steps):
        user = person("staker")
        fund(user, amount)
        stake = lock(user, amount)
        for step in steps:
            try:
                if step is None:
                    give_back(stake)
                else:
                    slash(stake, step)
            except (InvalidAmount, StakeClosed):
                continue
        stake.refresh_from_db()
        assert balance_of(Account.Kind.STAKE, stake.pk) == stake.left
        assert balance_of(Account.Kind.TREASURY, DATANET) == stake.slashed
        assert balance_of(Account.Kind.USER, user.pk) == stake.returned
        assert all(finding.holds for finding in check_ledger())
