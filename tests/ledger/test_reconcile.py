"""`manage.py reconcile` says equal, or by how many wei not, and exits accordingly."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from ledger import reconciliation
from ledger.models import Account, Entry, Hold, PayoutAddress
from tests.ledger.books import (
    FIRST,
    NOON,
    activate,
    balance_of,
    capture,
    earn,
    hold_for,
    link,
    paid,
    publish,
)

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments):
    out = StringIO()
    call_command("reconcile", *arguments, stdout=out)
    return out.getvalue()


def differences():
    return {f.name: f.difference for f in reconciliation.check_ledger() if not f.holds}


@pytest.fixture
def lived(payer, builder, contributor):
    """Books in which everything has happened once."""
    hold_for(payer, 10)
    capture(hold_for(payer, 1000, model_owner=builder), 900)
    earn(contributor, 100)
    link(contributor, FIRST)
    return publish()


def test_an_empty_ledger_is_equal(db):
    assert "DIFFERENT" not in run()


def test_books_in_which_everything_happened_are_equal(lived):
    report = run()

    assert "DIFFERENT" not in report
    assert report.count("equal") >= 12


def test_a_claim_leaves_the_books_equal(lived, deployed):
    from ledger.services.roots import advance_distributions

    advance_distributions(at=NOON)
    lived.refresh_from_db()
    activate(lived)
    paid()

    assert differences() == {}
    assert {
        f.name: f.difference
        for f in reconciliation.check_contracts(
            gateway_wei=-balance_of(Account.Kind.GATEWAY), distributor_wei=1
        )
    } == {"OPEN in the Gateway contract": 0, "OPEN in the RewardDistributor contract": 1}


def meddle(statement):
    """What a person with the database's own rights could do past every trigger."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement)
        cursor.execute("SET session_replication_role = DEFAULT")


def test_a_balance_that_was_meddled_with_is_found_to_the_wei(lived):
    meddle(
        "UPDATE ledger_account SET balance = balance + 7"
        " WHERE id = (SELECT id FROM ledger_account WHERE kind = 'PLATFORM' LIMIT 1)"
    )

    assert differences() == {
        "balances that differ from their postings": 7,
        "sum of all balances": 7,
    }
    with pytest.raises(CommandError, match="2 of"):
        run()


def test_a_posting_that_was_meddled_with_is_found(lived):
    entry = Entry.objects.get(
        kind=Entry.Kind.CAPTURE,
        cause_kind="completion",
        cause_id=Hold.objects.get(captured=900).cause_id,
    )
    meddle(
        f"UPDATE ledger_posting SET amount = amount + 1 WHERE entry_id = '{entry.pk}'"
        " AND account_id IN (SELECT id FROM ledger_account WHERE kind = 'PLATFORM')"
    )

    found = differences()
    assert found["entries that do not sum to zero (rows)"] == 1
    assert found["captured fees"] == 1


def test_the_other_ways_to_lose_a_wei_are_found(lived):
    PayoutAddress.objects.update(published=101)
    meddle("UPDATE ledger_hold SET amount = 9 WHERE amount = 10")

    assert differences() == {
        "addresses that differ from their leaves": 1,
        "escrow of distributions": -1,
        "pending holds": 1,
    }


def test_machines_get_json(lived):
    report = json.loads(run("--format", "json"))

    assert report["holds"] is True
    assert {"name", "expected", "found", "difference", "holds", "detail"} == set(
        report["findings"][0]
    )


def test_a_chain_that_cannot_be_read_is_no_agreement(lived, deployed):
    with pytest.raises(CommandError, match="could not be read"):
        run()


def test_suspense_that_stays_for_a_day_is_found(payer):
    hold = hold_for(payer, 1000)
    capture(hold, 900)
    assert "suspense older than a day (rows)" not in differences()
    age = (
        "UPDATE ledger_account SET created_at = now() - interval '25 hours' WHERE kind = 'SUSPENSE'"
    )
    with connection.cursor() as cursor:
        cursor.execute(age)
    assert differences() == {"suspense older than a day (rows)": 1}
