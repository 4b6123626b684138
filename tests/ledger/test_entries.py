"""Entries: written once under a key, refused whole, corrected by reversal."""

import pytest

from accounts.ids import uuid7
from ledger.errors import (
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
    InvalidEntry,
)
from ledger.models import Account, Entry, Posting
from ledger.services.opening import account_for
from ledger.services.posting import Leg, Refs, post_entry, reverse_entry
from tests.ledger.books import NOON, OPEN, balance_of

pytestmark = pytest.mark.django_db


def transfer(amount, key="k", **changes):
    values = {
        "kind": Entry.Kind.DEPOSIT,
        "key": key,
        "at": NOON,
        "legs": [
            Leg(account_for(Account.Kind.GATEWAY), -amount),
            Leg(account_for(Account.Kind.PLATFORM), amount),
        ],
    }
    return post_entry(**values | changes)


def test_the_same_key_and_body_give_the_same_entry():
    first = transfer(5)

    assert transfer(5) == first
    assert balance_of(Account.Kind.PLATFORM) == 5
    assert Entry.objects.count() == 1


def test_the_same_key_with_another_body_is_refused():
    transfer(5)

    with pytest.raises(IdempotencyConflict):
        transfer(6)
    assert balance_of(Account.Kind.PLATFORM) == 5


def test_the_order_of_the_legs_is_no_other_body():
    legs = [Leg(account_for(Account.Kind.GATEWAY), -5), Leg(account_for(Account.Kind.PLATFORM), 5)]
    first = transfer(5, legs=legs)

    assert transfer(5, legs=legs[::-1]) == first


def test_legs_to_one_account_are_added_up_unless_they_are_about_different_things():
    platform, datanet = account_for(Account.Kind.PLATFORM), uuid7()
    entry = transfer(
        0,
        legs=[
            Leg(account_for(Account.Kind.GATEWAY), -6),
            Leg(platform, 1),
            Leg(platform, 2),
            Leg(platform, 3, Refs(datanet=datanet)),
        ],
    )

    amounts = Posting.objects.filter(entry=entry, account=platform)
    assert set(amounts.values_list("amount", "datanet_id")) == {(3, None), (3, datanet)}
    assert entry.legs == 3


def test_more_than_is_there_is_refused_and_nothing_is_written(payer):
    user = account_for(Account.Kind.USER, payer.pk)
    legs = [Leg(user, -11 * OPEN), Leg(account_for(Account.Kind.PLATFORM), 11 * OPEN)]

    with pytest.raises(InsufficientFunds, match="10 OPEN are there, 11 OPEN are needed"):
        transfer(0, legs=legs)
    assert balance_of(Account.Kind.USER, payer.pk) == 10 * OPEN
    assert not Entry.objects.filter(idempotency_key="k").exists()


@pytest.mark.parametrize("amount", [1.0, True, "5", 2**256])
def test_an_amount_that_is_no_wei_is_refused(amount):
    gateway, platform = account_for(Account.Kind.GATEWAY), account_for(Account.Kind.PLATFORM)
    opposite = -amount if not isinstance(amount, str) else "-5"

    with pytest.raises(InvalidAmount):
        transfer(0, legs=[Leg(gateway, opposite), Leg(platform, amount)])
    assert not Entry.objects.exists()


def test_a_balance_stays_below_two_to_the_256():
    transfer(2**256 - 1)

    with pytest.raises(InvalidAmount, match="below 2"):
        transfer(1, key="one more")
    assert balance_of(Account.Kind.PLATFORM) == 2**256 - 1


def test_legs_that_do_not_balance_are_refused():
    with pytest.raises(InvalidEntry, match="add up to zero"):
        transfer(0, legs=[Leg(account_for(Account.Kind.PLATFORM), 5)])


def test_an_entry_that_moves_nothing_is_refused():
    with pytest.raises(InvalidEntry, match="moves something"):
        transfer(0)


def test_a_reversal_puts_everything_back_once():
    entry = transfer(5)

    reversal = reverse_entry(entry=entry, at=NOON, acting_user=None)

    assert reverse_entry(entry=entry, at=NOON, acting_user=None) == reversal
    assert reversal.reverses == entry
    assert balance_of(Account.Kind.PLATFORM) == 0
    assert balance_of(Account.Kind.GATEWAY) == 0


def test_a_reversal_is_not_reversed():
    reversal = reverse_entry(entry=transfer(5), at=NOON, acting_user=None)

    with pytest.raises(InvalidEntry, match="not reversed"):
        reverse_entry(entry=reversal, at=NOON, acting_user=None)
