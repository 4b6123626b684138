"""What the database itself refuses, whatever the code above it does."""

from contextlib import contextmanager

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from accounts.ids import uuid7
from ledger.models import Account, Entry, Posting
from ledger.services.opening import account_for
from tests.ledger.books import NOON, OPEN, balance_of

pytestmark = pytest.mark.django_db


def refused(match, action):
    with pytest.raises(DatabaseError, match=match), transaction.atomic(), checked_at_the_end():
        action()


@contextmanager
def checked_at_the_end():
    yield
    connection.check_constraints()


def write_entry(*amounts, legs=None):
    accounts = [account_for(Account.Kind.PLATFORM), account_for(Account.Kind.GATEWAY)]
    entry = Entry.objects.create(
        kind=Entry.Kind.DEPOSIT,
        idempotency_key=str(uuid7()),
        body_hash="0" * 64,
        legs=len(amounts) if legs is None else legs,
        effective_at=NOON,
    )
    Posting.objects.bulk_create(
        [
            Posting(entry=entry, account=accounts[number % 2], amount=amount)
            for number, amount in enumerate(amounts)
        ]
    )
    return entry


@pytest.mark.parametrize("model", [Entry, Posting])
def test_what_is_written_is_never_updated(payer, model):
    row = model.objects.first()
    field = "amount" if model is Posting else "legs"

    refused("Cannot update", lambda: model.objects.filter(pk=row.pk).update(**{field: 5}))


@pytest.mark.parametrize("table", ["ledger_posting", "ledger_entry"])
def test_what_is_written_is_never_deleted(payer, table):
    def delete():
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table}")

    refused("Cannot update or delete", delete)


def test_an_account_is_never_deleted(payer):
    empty = account_for(Account.Kind.TREASURY, uuid7())

    refused("Cannot delete", empty.delete)


def test_an_entry_that_does_not_balance_is_refused():
    refused("a sum of 1", lambda: write_entry(3, -2))


def test_an_entry_without_postings_is_refused():
    refused("0 of 2 postings", lambda: write_entry(legs=2))


def test_an_entry_of_one_leg_is_refused():
    refused("ledger_entry_two_legs", lambda: write_entry(0, legs=1))


def test_a_posting_of_nothing_is_refused():
    refused("ledger_posting_not_zero", lambda: write_entry(0, 0))


def test_an_entry_takes_no_further_postings():
    entry = write_entry(3, -3)
    platform = account_for(Account.Kind.PLATFORM)

    refused(
        "no further postings",
        lambda: Posting.objects.create(entry=entry, account=platform, amount=1),
    )


def test_a_balance_is_changed_by_postings_alone(payer):
    refused(
        "by postings alone",
        lambda: Account.objects.filter(kind=Account.Kind.USER).update(balance=1),
    )


def test_an_account_opens_empty():
    refused(
        "opens with a balance of zero",
        lambda: Account.objects.create(kind=Account.Kind.TREASURY, owner_id=uuid7(), balance=5),
    )


def test_an_account_keeps_its_owner(payer):
    refused("Cannot update", lambda: Account.objects.update(owner_id=uuid7()))


def test_an_account_of_ours_never_falls_below_zero():
    refused("ledger_account_no_overdraft", lambda: write_entry(-1, 1))


def test_what_is_held_outside_may_be_negative():
    write_entry(OPEN, -OPEN)

    assert balance_of(Account.Kind.GATEWAY) == -OPEN
    assert balance_of(Account.Kind.PLATFORM) == OPEN


def test_an_owner_has_one_account_of_a_kind():
    account_for(Account.Kind.PLATFORM)

    with pytest.raises(IntegrityError, match="ledger_account_once"), transaction.atomic():
        Account.objects.create(kind=Account.Kind.PLATFORM)
