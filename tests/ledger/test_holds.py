"""Holds: set aside, captured or released, never both."""

from datetime import timedelta

import pytest

from accounts.ids import uuid7
from accounts.models import AuditEvent
from ledger.errors import (
    HoldClosed,
    HoldExpired,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
)
from ledger.models import Account, Hold
from ledger.services.holds import Refs, release_expired_holds, release_hold
from ledger.splits import Split
from tests.ledger.books import NOON, OPEN, SPLIT, balance_of, capture, hold_for, terms_with

pytestmark = pytest.mark.django_db


def release(hold, **changes):
    return release_hold(
        **{"hold": hold, "reason": "The worker failed.", "acting_user": None, "at": NOON} | changes
    )


def test_a_hold_takes_money_out_of_reach(payer):
    hold = hold_for(payer, 4 * OPEN)

    assert hold.state == Hold.State.PENDING
    assert balance_of(Account.Kind.USER, payer.pk) == 6 * OPEN
    assert balance_of(Account.Kind.HOLD, payer.pk) == 4 * OPEN
    with pytest.raises(InsufficientFunds):
        hold_for(payer, 7 * OPEN)


def test_a_hold_asked_for_twice_is_opened_once(payer):
    cause = uuid7()

    assert hold_for(payer, 5, cause_id=cause) == hold_for(payer, 5, cause_id=cause)
    assert balance_of(Account.Kind.HOLD, payer.pk) == 5
    with pytest.raises(IdempotencyConflict):
        hold_for(payer, 6, cause_id=cause)


@pytest.mark.parametrize("amount", [0, -1, 1.5, True, 2**256])
def test_a_hold_of_no_amount_is_refused(payer, amount):
    with pytest.raises(InvalidAmount):
        hold_for(payer, amount)
    assert not Hold.objects.exists()


def test_a_hold_that_has_ended_already_is_refused(payer):
    with pytest.raises(HoldExpired):
        hold_for(payer, 5, expires_at=NOON)


def test_a_capture_divides_the_fee_and_gives_the_rest_back(payer, builder):
    hold = hold_for(payer, 2000, model_owner=builder)

    entry = capture(hold, 1001)

    hold.refresh_from_db()
    assert (hold.state, hold.captured, hold.closed_by) == (Hold.State.CAPTURED, 1001, entry)
    assert entry.parameter_version == SPLIT.version
    assert balance_of(Account.Kind.USER, payer.pk) == 10 * OPEN - 1001
    assert balance_of(Account.Kind.HOLD, payer.pk) == 0
    # exact parts 100.1, 200.2, 200.2, 500.5: the largest remainder gets the wei that is left
    assert balance_of(Account.Kind.PLATFORM) == 100
    assert balance_of(Account.Kind.EARNINGS, builder.pk) == 200
    assert balance_of(Account.Kind.STAKERS) == 200
    assert balance_of(Account.Kind.SUSPENSE, hold.cause_id) == 501


def test_a_completion_of_the_base_model_pays_the_platform(payer):
    hold = hold_for(payer, 1000)

    capture(hold, 1000, refs=Refs(completion=hold.cause_id))

    assert balance_of(Account.Kind.PLATFORM) == 800
    assert balance_of(Account.Kind.STAKERS) == 200
    assert balance_of(Account.Kind.SUSPENSE, hold.cause_id) == 0


def test_a_capture_asked_for_twice_is_written_once(payer):
    hold, refs = hold_for(payer, 1000), Refs()

    assert capture(hold, 900, refs=refs) == capture(hold, 900, refs=refs)
    assert balance_of(Account.Kind.USER, payer.pk) == 10 * OPEN - 900
    with pytest.raises(IdempotencyConflict):
        capture(hold, 901, refs=refs)


def test_a_capture_of_one_wei_is_split_without_losing_it(payer):
    hold = hold_for(payer, 1)

    entry = capture(hold, 1)

    assert sum(p.amount for p in entry.postings.all() if p.amount > 0) == 1
    assert balance_of(Account.Kind.SUSPENSE, hold.cause_id) == 1


@pytest.mark.parametrize("amount", [0, -1, 1.5, 1001])
def test_a_capture_takes_something_and_no_more_than_was_held(payer, amount):
    hold = hold_for(payer, 1000)

    with pytest.raises(InvalidAmount):
        capture(hold, amount)
    assert balance_of(Account.Kind.HOLD, payer.pk) == 1000


def test_an_expired_hold_is_not_captured(payer):
    hold = hold_for(payer, 1000)

    with pytest.raises(HoldExpired):
        capture(hold, 1000, at=NOON + timedelta(hours=1))


def test_a_capture_under_other_parameters_than_the_hold_is_refused(payer):
    hold = hold_for(payer, 1000)

    with pytest.raises(IdempotencyConflict, match="version 1, not 2"):
        capture(hold, 1000, terms=terms_with(Split(2, SPLIT.parts)))


def test_a_release_gives_everything_back_once(payer):
    hold = hold_for(payer, 1000)

    assert release(hold) == release(hold)

    hold.refresh_from_db()
    assert (hold.state, hold.reason) == (Hold.State.RELEASED, "The worker failed.")
    assert balance_of(Account.Kind.USER, payer.pk) == 10 * OPEN


def test_paid_and_failed_cannot_both_be_true(payer):
    captured, released = hold_for(payer, 10), hold_for(payer, 10)
    capture(captured, 10)
    release(released)

    with pytest.raises(HoldClosed):
        release(captured)
    with pytest.raises(HoldClosed):
        capture(released, 10)


def test_the_sweeper_releases_what_has_expired_and_nothing_else(payer):
    old, young = hold_for(payer, 10), hold_for(payer, 10, expires_at=NOON + timedelta(days=1))
    captured = hold_for(payer, 10)
    capture(captured, 10)

    assert release_expired_holds(at=NOON + timedelta(hours=2)) == 1

    states = {hold.pk: hold.state for hold in Hold.objects.all()}
    assert states == {
        old.pk: Hold.State.RELEASED,
        young.pk: Hold.State.PENDING,
        captured.pk: Hold.State.CAPTURED,
    }


def test_each_change_leaves_an_audit_event(payer):
    hold = hold_for(payer, 10)
    capture(hold, 10)

    verbs = AuditEvent.objects.filter(target_id=hold.pk).values_list("verb", flat=True)
    assert sorted(verbs) == ["ledger.hold_captured", "ledger.hold_opened"]
