"""Topping up: by a rule that is off by default, from one's own earnings, and never twice."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from accounts.models import AuditEvent, Notification
from ledger.errors import InsufficientFunds, InvalidAmount
from ledger.models import Account, Entry, TopUpRule
from ledger.services.topups import run_top_ups, set_top_up, top_up
from tests.ledger.books import NOON, OPEN, balance_of, earn, fund, hold_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def earner(builder):
    """5 to spend and 100 earned."""
    earn(builder, 100)
    fund(builder, 5)
    return builder


def rule(user, **changes):
    values = {"is_on": True, "below": 10, "amount": 30, "monthly_limit": 70}
    values |= {"user": user, "acting_user": user, "at": NOON}
    return set_top_up(**values | changes)


def funds(user):
    return balance_of(Account.Kind.USER, user.pk), balance_of(Account.Kind.EARNINGS, user.pk)


def told(user):
    found = Notification.objects.filter(user=user, kind="ledger.topped_up")
    return list(found.values_list("title", flat=True))


def test_without_a_rule_or_with_one_that_is_off_nothing_moves(earner):
    assert run_top_ups(at=NOON) == 0
    rule(earner, is_on=False)
    assert run_top_ups(at=NOON) == 0
    with pytest.raises(InsufficientFunds):
        hold_for(earner, 6)

    assert funds(earner) == (5, 100)


def test_a_hold_that_leaves_too_little_is_topped_up_first(earner):
    rule(earner)

    hold_for(earner, 20)

    assert funds(earner) == (15, 70)
    entry = Entry.objects.get(kind=Entry.Kind.TRANSFER)
    assert (entry.cause_kind, entry.actor) == ("top_up", None)
    assert AuditEvent.objects.filter(verb="ledger.topped_up", target_id=entry.pk).count() == 1
    assert told(earner) == ["0.00000000000000003 OPEN of your earnings were made spendable"]


def test_a_hold_that_is_too_much_even_so_is_refused_and_nothing_is_moved(earner):
    rule(earner)

    with pytest.raises(InsufficientFunds):
        hold_for(earner, 36)

    assert funds(earner) == (5, 100)
    assert told(earner) == []


def test_the_sweep_moves_once_until_the_balance_is_low_again(earner):
    rule(earner)

    assert [run_top_ups(at=NOON) for _ in range(3)] == [1, 0, 0]
    assert funds(earner) == (35, 70)


def test_it_moves_no_more_than_its_months_limit(earner):
    rule(earner, below=1_000)

    for _ in range(5):
        run_top_ups(at=NOON)
    assert funds(earner) == (75, 30)
    run_top_ups(at=datetime(2026, 12, 1, tzinfo=UTC))

    assert funds(earner) == (105, 0)


def test_it_moves_no_more_than_was_earned(earner):
    rule(earner, below=1_000, amount=90, monthly_limit=OPEN)

    run_top_ups(at=NOON)
    run_top_ups(at=NOON)
    assert run_top_ups(at=NOON) == 0

    assert funds(earner) == (105, 0)


def test_it_is_enough_where_enough_is_there(earner):
    rule(earner, below=5)

    assert top_up(user=earner, at=NOON) is None


@pytest.mark.parametrize("name", ["below", "amount", "monthly_limit"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_an_amount_that_is_none_is_refused(earner, name, value):
    with pytest.raises(InvalidAmount):
        rule(earner, **{name: value})

    assert not TopUpRule.objects.exists()


def test_the_page_sets_it_and_it_is_off_unless_it_is_ticked(client, earner):
    client.force_login(earner)
    body = {"below": "1", "amount": "2", "monthly_limit": "3"}

    client.post(reverse("ledger:top_up"), body)
    assert TopUpRule.objects.get().is_on is False
    page = client.post(reverse("ledger:top_up"), body | {"is_on": "on"}, follow=True)

    assert "topped up from your earnings from now on" in page.content.decode()
    assert TopUpRule.objects.get().is_on is True
    wrong = client.post(reverse("ledger:top_up"), body | {"below": "-1"}, follow=True)
    assert "notice--bad" in wrong.content.decode()


def test_the_api_sets_and_shows_it_to_its_owner_alone(client, earner, stranger):
    address = reverse("api-top-up")
    assert client.get(address).status_code in (401, 403)
    client.force_login(earner)
    assert client.get(address).status_code == 404
    body = {"is_on": True, "below": "10", "amount": "30", "monthly_limit": "70"}

    assert client.put(address, body, content_type="application/json").status_code == 200
    run_top_ups(at=NOON)

    assert client.get(address).json()["amount"] == "30"
    bad = client.put(address, body | {"amount": "0"}, content_type="application/json")
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid_amount")
    client.force_login(stranger)
    assert client.get(address).status_code == 404


def test_a_rule_of_one_never_moves_what_another_earned(earner, payer):
    rule(payer, below=OPEN * 100)

    assert run_top_ups(at=NOON + timedelta(days=1)) == 0
    assert funds(earner) == (5, 100)
