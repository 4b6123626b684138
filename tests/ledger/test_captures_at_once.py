"""Many holds captured in one transaction: the same entries as one by one, all or none."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.ids import uuid7
from accounts.models import AuditEvent
from ledger.errors import HoldClosed, HoldExpired, InvalidAmount, InvalidEntry
from ledger.models import Account, Entry, Hold
from ledger.reconciliation import check_ledger
from ledger.services.budgets import set_budget
from ledger.services.holds import Capture, Refs, capture_many, release_hold, terms_of
from tests.ledger.books import NOON, OPEN, balance_of, capture, fund, hold_for, person

pytestmark = pytest.mark.django_db


def wish(hold, amount, model=None):
    refs = Refs(model=model or hold.cause_id, completion=hold.cause_id)
    return Capture(hold, amount, terms_of(hold), refs)


def take(wishes, **changes):
    return capture_many(captures=wishes, **{"acting_user": None, "at": NOON} | changes)


def moved(entry):
    """Kind, owner's role and amount of each leg, without the ids of this run."""
    return sorted((p.account.kind, p.amount) for p in entry.postings.select_related("account"))


@settings(max_examples=6, deadline=None)
@given(
    prices=st.lists(
        st.tuples(st.integers(1, 10**20), st.integers(0, 10**20)), min_size=1, max_size=4
    )
)
def test_many_at_once_are_the_same_entries_as_one_by_one(prices):
    payer, builder = person(uuid7().hex), person(uuid7().hex)
    fund(payer, 10**24)
    pairs = [
        [hold_for(payer, price + rest, model_owner=builder) for _ in range(2)]
        for price, rest in prices
    ]
    at_once = take([wish(mine, price) for (mine, _), (price, _) in zip(pairs, prices, strict=True)])
    singly = [
        capture(other, price, refs=Refs(model=other.cause_id, completion=other.cause_id))
        for (_, other), (price, _) in zip(pairs, prices, strict=True)
    ]
    assert [moved(one) for one in at_once] == [moved(one) for one in singly]
    assert all(finding.holds for finding in check_ledger())


def test_holds_entries_and_events_are_written_for_each():
    payer = person("ada")
    fund(payer, 1_000)
    holds = [hold_for(payer, 100, model_owner=payer) for _ in range(3)]
    entries = take([wish(hold, 60 + n) for n, hold in enumerate(holds)])
    kept = Hold.objects.in_bulk([hold.pk for hold in holds])
    for n, (hold, entry) in enumerate(zip(holds, entries, strict=True)):
        now = kept[hold.pk]
        assert (now.state, now.captured, now.closed_by, now.closed_at) == (
            "CAPTURED",
            60 + n,
            entry,
            NOON,
        )
        event = AuditEvent.objects.get(verb="ledger.hold_captured", target_id=hold.pk)
        assert event.data == {"amount": str(60 + n), "entry": str(entry.pk)}
    assert balance_of(Account.Kind.HOLD, payer.pk) == 0


def test_asked_again_with_some_that_are_new_each_is_captured_once():
    payer = person("ada")
    fund(payer, 1_000)
    first, second = (wish(hold_for(payer, 100), 50) for _ in range(2))
    [before] = take([first])
    again = take([second, first])
    assert again[1] == before
    assert Entry.objects.filter(kind=Entry.Kind.CAPTURE).count() == 2
    assert AuditEvent.objects.filter(verb="ledger.hold_captured").count() == 2
    assert balance_of(Account.Kind.PLATFORM) + balance_of(Account.Kind.STAKERS) == 50


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda hold: release_hold(hold=hold, reason="", acting_user=None, at=NOON), HoldClosed),
        (lambda hold: Hold.objects.filter(pk=hold.pk).update(expires_at=NOON), HoldExpired),
    ],
)
def test_one_that_cannot_be_captured_leaves_all_as_they_were(spoil, error):
    payer = person("ada")
    fund(payer, 1_000)
    holds = [hold_for(payer, 100) for _ in range(3)]
    spoil(holds[1])
    with pytest.raises(error):
        take([wish(hold, 50) for hold in holds])
    assert Hold.objects.filter(state="CAPTURED").count() == 0
    assert not Entry.objects.filter(kind=Entry.Kind.CAPTURE).exists()


def test_bad_amounts_and_a_hold_that_stands_twice_are_refused():
    payer = person("ada")
    fund(payer, 1_000)
    hold = hold_for(payer, 100)
    for amount in (0, -1, 101, 1.5):
        with pytest.raises(InvalidAmount):
            take([wish(hold, amount)])
    with pytest.raises(InvalidEntry):
        take([wish(hold, 1), wish(hold, 1)])
    assert take([]) == []


def test_a_budget_counts_all_of_them_once():
    payer = person("ada")
    fund(payer, OPEN)
    set_budget(user=payer, limit=OPEN, hard_stop=False, acting_user=payer, at=NOON)
    wishes = [wish(hold_for(payer, 100), 40) for _ in range(3)]
    take(wishes)
    take(wishes, at=NOON + timedelta(minutes=1))
    payer.budget.refresh_from_db()
    assert payer.budget.spent == 120


def test_statements_do_not_grow_with_the_holds(django_assert_max_num_queries):
    payers = [person(f"p{n}") for n in range(5)]
    for one in payers:
        fund(one, 1_000)
    wishes = [
        wish(hold_for(one, 100, model_owner=payers[0]), 50) for one in payers for _ in range(4)
    ]
    take(wishes[:1])  # opens the accounts of the house
    with django_assert_max_num_queries(14):
        take(wishes[1:])
