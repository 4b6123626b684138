"""A deposit that the chain takes back: what is left of it goes, the rest is owed."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Notification
from ledger.earnings import waiting
from ledger.errors import IdempotencyConflict, InsufficientFunds, SpendingBlocked
from ledger.models import Account, Deposit
from ledger.reconciliation import check_ledger
from ledger.services.deposits import credit_deposit, undo_deposit
from ledger.services.holds import release_hold
from ledger.services.opening import account_for
from ledger.services.receivables import owed_by, settle_receivables
from ledger.services.stakes import lock_stake
from ledger.services.transfers import make_earnings_spendable
from ledger.services.withdrawals import request_withdrawal
from tests.ledger.books import (
    FIRST,
    NOON,
    OPEN,
    balance_of,
    earn,
    hold_for,
    link,
    person,
    publish,
)

pytestmark = pytest.mark.django_db
NOBODY = UUID(int=0)


def deposit(user, amount, number=0):
    account = account_for(Account.Kind.USER, user.pk)
    return credit_deposit(account_id=account.pk, amount=amount, at=NOON, **at(number))


def at(number):
    return {"chain_id": 31337, "tx_hash": f"0xAA{number:02x}", "log_index": 0}


def undo(number=0):
    return undo_deposit(at=NOON, **at(number))


def broken():
    return {finding.name: finding.difference for finding in check_ledger() if not finding.holds}


def money(user):
    """(spendable, held, owed, what the Gateway holds)"""
    return (
        balance_of(Account.Kind.USER, user.pk),
        balance_of(Account.Kind.HOLD, user.pk),
        owed_by(user.pk),
        -balance_of(Account.Kind.GATEWAY),
    )


def test_what_was_not_spent_is_taken_back_and_nothing_is_owed(contributor):
    deposit(contributor, 5)

    undo()

    assert money(contributor) == (0, 0, 0, 0)
    assert Deposit.objects.get().state == Deposit.State.VANISHED
    assert broken() == {}


def test_what_was_spent_is_owed_and_spending_stops(contributor, deployed):
    deposit(contributor, 5 * OPEN)
    hold_for(contributor, 3 * OPEN)
    link(contributor, FIRST)

    undo()

    assert money(contributor) == (0, 3 * OPEN, 3 * OPEN, 0)
    for spend in (
        lambda: hold_for(contributor, 1),
        lambda: lock_stake(
            staker=contributor, amount=1, cause_kind="slash", cause_id=NOBODY,
            acting_user=contributor, at=NOON,
        ),
        lambda: request_withdrawal(
            user=contributor, source=Account.Kind.USER, address=FIRST, amount=1, key="w",
            acting_user=contributor, at=NOON,
        ),
    ):  # fmt: skip
        with pytest.raises(SpendingBlocked, match="blocked: 3 OPEN are owed"):
            spend()
    assert broken() == {}


def test_earnings_of_who_owes_are_not_published_and_settle_it(contributor):
    link(contributor, FIRST)
    deposit(contributor, 5)
    hold_for(contributor, 3)
    earn(contributor, 10)
    undo()
    assert publish() is None
    (item,) = waiting(contributor, NOON)
    assert "Publishing is blocked" in item.why

    def spendable(amount):
        return make_earnings_spendable(
            user=contributor, amount=amount, key="k", acting_user=contributor, at=NOON
        )

    moved = spendable(7)

    assert money(contributor) == (4, 3, 0, 10)
    assert spendable(7) == moved
    with pytest.raises(IdempotencyConflict):
        spendable(6)
    assert publish().amount == 3
    assert broken() == {}


def test_owner_and_staff_are_told(contributor):
    staff = person("staff")
    staff.is_staff = True
    staff.save()
    deposit(contributor, 5 * OPEN)
    hold_for(contributor, 3 * OPEN)

    undo()

    told = Notification.objects.get(user=contributor, kind="ledger.deposit_undone")
    assert "3 OPEN of it were spent already" in told.body
    assert "3 OPEN are owed" in Notification.objects.get(user=staff, kind="ledger.alarm").title


def test_the_same_transaction_in_another_block_settles_it_exactly_once(contributor):
    deposit(contributor, 5)
    hold_for(contributor, 3)
    undo()
    undo()
    assert money(contributor) == (0, 3, 3, 0)

    for _ in range(2):
        deposit(contributor, 5)

    assert money(contributor) == (2, 3, 0, 5)
    assert Deposit.objects.get().state == Deposit.State.CREDITED
    hold_for(contributor, 1)
    assert broken() == {}


def test_it_may_vanish_and_come_again_many_times(contributor):
    deposit(contributor, 5)
    hold_for(contributor, 3)
    for _ in range(3):
        undo()
        deposit(contributor, 5)
    assert money(contributor) == (2, 3, 0, 5)
    assert Deposit.objects.get().undone == 3
    assert broken() == {}


def test_another_deposit_settles_what_is_owed_first(contributor):
    deposit(contributor, 5)
    hold_for(contributor, 4)
    undo()

    deposit(contributor, 3, number=1)
    assert money(contributor) == (0, 4, 1, 3)
    deposit(contributor, 3, number=2)

    assert money(contributor) == (2, 4, 0, 6)
    # And then the first one comes again after all: it is theirs.
    deposit(contributor, 5)
    assert money(contributor) == (7, 4, 0, 11)
    assert broken() == {}


def test_a_released_hold_settles_what_is_owed(contributor):
    deposit(contributor, 5)
    hold = hold_for(contributor, 4)
    undo()
    release_hold(hold=hold, reason="", acting_user=None, at=NOON + timedelta(minutes=1))
    assert money(contributor) == (4, 0, 4, 0)

    assert settle_receivables(at=NOON) == 1

    assert money(contributor) == (0, 0, 0, 0)
    assert settle_receivables(at=NOON) == 0
    assert broken() == {}


def test_earnings_are_not_touched(contributor):
    deposit(contributor, 5)
    earn(contributor, 7)
    hold_for(contributor, 5)
    undo()
    assert balance_of(Account.Kind.EARNINGS, contributor.pk) == 7
    assert owed_by(contributor.pk) == 5


def test_a_deposit_to_nobody_goes_as_it_came(db):
    values = {"account_id": NOBODY, "amount": 9, "at": NOON}
    credit_deposit(**values, **at(1))
    undo(1)
    assert balance_of(Account.Kind.UNASSIGNED) == 0
    assert owed_by(None) == 0
    credit_deposit(**values, **at(1))
    assert balance_of(Account.Kind.UNASSIGNED) == 9
    assert broken() == {}


def test_the_same_place_with_another_amount_is_refused(contributor):
    deposit(contributor, 5)
    with pytest.raises(IdempotencyConflict):
        deposit(contributor, 6)


DEPOSITS = st.lists(st.integers(1, 9), min_size=1, max_size=4)
ACTS = st.lists(
    st.tuples(st.sampled_from(["undo", "again", "hold", "settle"]), st.integers(0, 9)), max_size=25
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(DEPOSITS, ACTS)
def test_whatever_comes_and_goes_the_books_equal_a_model(contributor, amounts, acts):
    with transaction.atomic():
        credited = dict.fromkeys(range(len(amounts)), True)
        held = 0
        for number, amount in enumerate(amounts):
            deposit(contributor, amount, number)
        for act, number in acts:
            which = number % len(amounts)
            if act == "undo":
                undo(which)
                credited[which] = False
            elif act == "again":
                deposit(contributor, amounts[which], which)
                credited[which] = True
            elif act == "settle":
                settle_receivables(at=NOON)
            elif number:
                try:
                    hold_for(contributor, number)
                    held += number
                except (InsufficientFunds, SpendingBlocked):
                    pass
            backed = sum(amounts[n] for n in credited if credited[n])
            expected = (max(0, backed - held), held, max(0, held - backed), backed)
            assert money(contributor) == expected
        assert broken() == {}
        transaction.set_rollback(True)
