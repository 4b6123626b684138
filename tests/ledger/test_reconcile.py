"""`manage.py reconcile` says equal, or by how many wei not, and exits accordingly."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.db.models import F

from ledger import reconciliation
from ledger.models import Account, Entry, Hold, Intent, PayoutAddress
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


@pytest.fixture
def under_way(payer, deployed):
    """Two withdrawals in one batch, whose intent is signed."""
    from ledger.services.payouts import batch_withdrawals
    from ledger.services.withdrawals import request_withdrawal

    link(payer, FIRST)
    for number in (1, 2):
        request_withdrawal(
            user=payer, source=Account.Kind.USER, address=FIRST, amount=number * 10**18,
            key=str(number), acting_user=payer, at=NOON,
        )  # fmt: skip
    batch = batch_withdrawals(at=NOON)
    Intent.objects.filter(pk=batch.intent_id).update(state=Intent.State.MINED, nonce=0)
    assert differences() == {}
    return batch


def paid_place(batch, place):
    from ledger.services.payouts import on_withdrawn

    one = batch.withdrawals.get(place=place)
    return on_withdrawn(
        batch_id=batch.pk, place=place, address=one.address, amount=one.amount, tx_hash="0xaa",
        at=NOON,
    )  # fmt: skip


def test_in_flight_equals_intents_whichever_is_final_first(under_way):
    """Between the Gateway's events and the intent's own finality the books are equal as well."""
    paid_place(under_way, 0)
    assert differences() == {}
    Intent.objects.update(state=Intent.State.FINAL)
    assert differences() == {}
    paid_place(under_way, 1)
    assert differences() == {}


def test_a_withdrawal_whose_intent_pays_another_sum_or_is_gone_is_found(under_way):
    Intent.objects.update(outflow=F("outflow") - 1)
    assert differences() == {"intents of withdrawals": -1}
    Intent.objects.all().delete()
    assert differences() == {"intents of withdrawals": -3 * 10**18}


def test_a_distribution_whose_funding_pays_another_sum_is_found(lived, deployed):
    from ledger.services.roots import advance_distributions

    advance_distributions(at=NOON)
    assert differences() == {}
    Intent.objects.update(outflow=F("outflow") + 5)
    assert differences() == {"intents of funding distributions": 5}
