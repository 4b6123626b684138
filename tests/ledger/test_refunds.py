"""A captured fee comes back to its payer to the wei, wherever it has gone meanwhile, and once."""

import pytest
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.ids import uuid7
from accounts.models import AuditEvent, Notification
from ledger.errors import InsufficientFunds, NothingToRefund, ReasonMissing
from ledger.models import Account, Entry, Hold, Refund
from ledger.reconciliation import check_ledger
from ledger.services.holds import Refs, release_hold
from ledger.services.opening import account_for
from ledger.services.posting import Leg, post_entry
from ledger.services.refunds import refund_fee, what_it_takes
from ledger.services.settlement import Credit, settle_suspense
from ledger.services.transfers import make_earnings_spendable
from tests.ledger.books import (
    FIRST,
    NOON,
    balance_of,
    capture,
    fund,
    hold_for,
    link,
    person,
    publish,
)

pytestmark = pytest.mark.django_db
Kind = Account.Kind


class Fee:
    """A fee of 1,000 wei: 100 platform, 200 owner, 200 stakers, 500 for two contributors."""

    def __init__(self, price=1_000, name=""):
        self.payer, self.owner, self.ada, self.bob = (
            person(f"{one}{name}") for one in ("payer", "owner", "ada", "bob")
        )
        self.staff = person(f"staff{name}")
        self.staff.is_staff = True
        self.staff.save()
        self.before = price + 7
        fund(self.payer, self.before)
        self.hold = hold_for(self.payer, price + 7, model_owner=self.owner)
        capture(self.hold, price, refs=Refs(model=uuid7(), completion=self.hold.cause_id))
        self.hold.refresh_from_db()

    def settle(self, ada=10**9 // 5):
        credits = [
            Credit("contributor", self.ada.pk, ada),
            Credit("contributor", self.bob.pk, 10**9 - ada),
        ]
        return settle_suspense(completion_id=self.hold.cause_id, credits=credits, at=NOON)

    def refund(self, **changes):
        values = {"hold": self.hold, "reason": "It broke.", "acting_user": self.staff, "at": NOON}
        return refund_fee(**values | changes)

    def spend(self, user, amount):
        make_earnings_spendable(
            user=user, amount=amount, key=uuid7().hex, acting_user=user, at=NOON
        )


def earned(user):
    return balance_of(Kind.EARNINGS, user.pk)


def wrong():
    return {finding.name: finding.difference for finding in check_ledger() if not finding.holds}


def test_all_of_it_is_taken_back_from_where_it_lies():
    fee = Fee()
    settled = fee.settle()
    refund = fee.refund()
    assert balance_of(Kind.USER, fee.payer.pk) == fee.before
    assert [earned(one) for one in (fee.owner, fee.ada, fee.bob)] == [0, 0, 0]
    assert balance_of(Kind.PLATFORM) == balance_of(Kind.STAKERS) == 0
    assert balance_of(Kind.SUSPENSE, fee.hold.cause_id) == 0
    assert (refund.amount, refund.taken_back, refund.borne) == (1_000, 1_000, 0)
    captured = Hold.objects.get(pk=fee.hold.pk).closed_by
    assert (refund.settlement.reverses, refund.entry.reverses) == (settled, captured)
    assert {refund.entry.kind, refund.settlement.kind} == {Entry.Kind.REVERSAL}
    assert wrong() == {}


def test_before_the_receipt_suspense_is_given_back_and_the_receipt_settles_nothing():
    fee = Fee()
    refund = fee.refund()
    assert refund.settlement is None
    assert balance_of(Kind.USER, fee.payer.pk) == fee.before
    assert fee.settle() is None
    assert earned(fee.ada) == 0
    assert wrong() == {}


def test_what_was_published_stays_published_and_the_platform_bears_it():
    fee, rich = Fee(), Fee(price=100_000, name="-rich")
    fee.settle()
    link(fee.ada, FIRST)
    publish()
    assert earned(fee.ada) == 0
    before = balance_of(Kind.PLATFORM)
    refund = fee.refund()
    assert (refund.taken_back, refund.borne) == (900, 100)
    assert balance_of(Kind.PLATFORM) == before - 100 - 100
    assert balance_of(Kind.ESCROW) == 100
    assert balance_of(Kind.USER, fee.payer.pk) == fee.before
    assert rich.hold.pk != fee.hold.pk
    assert wrong() == {}


def test_who_has_a_part_left_gives_that_part():
    fee = Fee()
    Fee(price=100_000, name="-rich")
    fee.settle()
    fee.spend(fee.bob, 150)
    refund = fee.refund()
    assert refund.borne == 150
    assert earned(fee.bob) == 0
    assert balance_of(Kind.USER, fee.bob.pk) == 150
    assert balance_of(Kind.RECEIVABLE, fee.bob.pk) == 0
    assert wrong() == {}


def test_what_the_platform_cannot_bear_is_refused_and_nothing_is_written():
    fee = Fee()
    fee.settle()
    fee.spend(fee.bob, 400)
    entries = Entry.objects.count()
    assert (what_it_takes(fee.hold).borne, what_it_takes(fee.hold).short) == (400, 400)
    with pytest.raises(InsufficientFunds, match="platform"):
        fee.refund()
    assert (Entry.objects.count(), Refund.objects.count()) == (entries, 0)
    assert earned(fee.owner) == 200


def test_asked_twice_it_is_given_back_once():
    fee = Fee()
    fee.settle()
    first = fee.refund()
    assert fee.refund(reason="Another reason.") == first
    assert balance_of(Kind.USER, fee.payer.pk) == fee.before
    assert AuditEvent.objects.filter(verb="ledger.fee_refunded").count() == 1
    with pytest.raises(DatabaseError), transaction.atomic():
        Refund.objects.filter(pk=first.pk).update(reason="Never mind.")


def test_a_hold_that_took_nothing_has_nothing_to_give_back():
    fee = Fee()
    fund(fee.payer, 50, number=1)
    held = hold_for(fee.payer, 50)
    for _ in range(2):
        with pytest.raises(NothingToRefund):
            fee.refund(hold=held)
        release_hold(hold=held, reason="", acting_user=None, at=NOON)


def test_only_staff_give_back_and_say_why():
    fee = Fee()
    for stranger in (fee.payer, fee.owner):
        with pytest.raises(PermissionDenied):
            fee.refund(acting_user=stranger)
    with pytest.raises(ReasonMissing):
        fee.refund(reason="  ")
    assert not Refund.objects.exists()


def test_payer_and_earners_are_told_and_the_audit_trail_has_the_reason():
    fee = Fee()
    fee.settle()
    refund = fee.refund()
    told = dict(Notification.objects.values_list("user__handle", "kind"))
    assert told["payer"] == "ledger.fee_refunded"
    assert {told[one] for one in ("owner", "ada", "bob")} == {"ledger.earnings_taken_back"}
    event = AuditEvent.objects.get(verb="ledger.fee_refunded")
    assert (event.actor, event.data["reason"], event.data["entry"]) == (
        fee.staff,
        "It broke.",
        str(refund.entry_id),
    )


def test_what_the_payer_owes_is_settled_of_it_first():
    fee = Fee()
    owes = account_for(Kind.RECEIVABLE, fee.payer.pk)
    issued = account_for(Kind.ISSUED)
    legs = [Leg(owes, -30), Leg(account_for(Kind.USER, fee.payer.pk), 30)]
    post_entry(kind=Entry.Kind.GRANT, key="owed", legs=legs, at=NOON)
    assert issued.balance == 0
    fee.refund()
    assert balance_of(Kind.RECEIVABLE, fee.payer.pk) == 0
    assert balance_of(Kind.USER, fee.payer.pk) == fee.before


@settings(max_examples=12, deadline=None)
@given(
    price=st.integers(1, 10**21),
    ada=st.integers(0, 10**9),
    is_settled=st.booleans(),
    gone=st.lists(st.integers(0, 100), min_size=3, max_size=3),
)
def test_the_payer_has_all_of_it_and_nobody_loses_more_than_the_fee_gave(
    price, ada, is_settled, gone
):
    fee = Fee(price=price, name=uuid7().hex)
    Fee(price=10**24, name=uuid7().hex)
    if is_settled:
        fee.settle(ada=ada)
    people = (fee.owner, fee.ada, fee.bob)
    given_to = [earned(one) for one in people]
    for one, percent in zip(people, gone, strict=True):
        if amount := earned(one) * percent // 100:
            fee.spend(one, amount)
    left = [earned(one) for one in people]
    platform = balance_of(Kind.PLATFORM)
    refund = fee.refund()
    assert balance_of(Kind.USER, fee.payer.pk) == fee.before
    assert [earned(one) for one in people] == [0, 0, 0]
    assert refund.borne == sum(given_to) - sum(left)
    postings = fee.hold.closed_by.postings.filter(account__kind=Kind.PLATFORM)
    own_part = sum(posting.amount for posting in postings)
    assert balance_of(Kind.PLATFORM) == platform - own_part - refund.borne
    assert wrong() == {}
