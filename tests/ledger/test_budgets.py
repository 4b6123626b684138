"""A budget of the month: told at its marks, once each, and a stop where its owner wishes one."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import AuditEvent, Notification
from ledger.errors import BudgetReached, InvalidAmount
from ledger.models import Account, Budget, BudgetNotice
from ledger.services.budgets import drop_budget, refresh_budgets, set_budget
from ledger.services.holds import release_hold
from ledger.services.posting import reverse_entry
from tests.ledger.books import NOON, OPEN, balance_of, capture, fund, hold_for

pytestmark = pytest.mark.django_db
NEXT_MONTH = datetime(2026, 12, 1, tzinfo=UTC)


def budget(user, limit=100, hard_stop=False, **changes):
    values = {"user": user, "limit": limit, "hard_stop": hard_stop, "acting_user": user}
    return set_budget(**values | {"at": NOON} | changes)


def spend(user, amount, at=NOON):
    hold = hold_for(user, amount, at=at, expires_at=at + timedelta(hours=1))
    return capture(hold, amount, at=at)


def told(user):
    found = Notification.objects.filter(user=user, kind="ledger.budget_mark").order_by("id")
    return [int(row.title.split()[0]) for row in found]


def test_each_mark_is_told_once_in_a_month(payer):
    budget(payer)
    for amount in (49, 1, 10, 20, 19, 1, 50):
        spend(payer, amount)

    assert told(payer) == [50, 80, 100]
    spend(payer, 60, at=NEXT_MONTH)
    assert told(payer) == [50, 80, 100, 50]


def test_a_fee_that_passes_two_marks_is_told_of_as_the_higher_one(payer):
    budget(payer)
    spend(payer, 85)
    spend(payer, 1)

    assert told(payer) == [80]
    assert sorted(BudgetNotice.objects.values_list("percent", flat=True)) == [50, 80]


def test_a_budget_that_only_tells_refuses_nothing(payer):
    budget(payer)

    spend(payer, 500)

    assert told(payer) == [100]


def test_a_stop_refuses_what_could_go_over_it_and_nothing_is_written(payer):
    budget(payer, hard_stop=True)
    spend(payer, 60)
    hold_for(payer, 30)

    with pytest.raises(BudgetReached) as refused:
        hold_for(payer, 11)

    assert refused.value.code == "budget_reached"
    assert "0.00000000000000001 OPEN are left" in refused.value.message
    assert balance_of(Account.Kind.HOLD, payer.pk) == 30
    hold_for(payer, 10)


def test_what_was_released_is_free_again(payer):
    budget(payer, hard_stop=True)
    hold = hold_for(payer, 100)
    with pytest.raises(BudgetReached):
        hold_for(payer, 1)

    release_hold(hold=hold, reason="It failed.", acting_user=None, at=NOON)

    hold_for(payer, 100)


def test_a_stop_is_over_with_the_month(payer):
    budget(payer, hard_stop=True)
    spend(payer, 100, at=NEXT_MONTH - timedelta(seconds=1))
    with pytest.raises(BudgetReached):
        hold_for(payer, 1, at=NEXT_MONTH - timedelta(seconds=1), expires_at=NEXT_MONTH)

    hold_for(payer, 100, at=NEXT_MONTH, expires_at=NEXT_MONTH + timedelta(hours=1))


def test_a_hold_that_is_asked_for_again_is_the_first_one(payer):
    budget(payer, hard_stop=True)
    cause = uuid7()

    assert hold_for(payer, 90, cause_id=cause) == hold_for(payer, 90, cause_id=cause)


def test_what_was_spent_before_the_budget_counts(payer):
    spend(payer, 80)

    assert budget(payer).spent == 80
    assert told(payer) == [80]


def test_the_sweep_finds_what_was_missed_and_takes_reversals_off(payer):
    entry = spend(payer, 80)
    budget(payer)
    Budget.objects.update(spent=3)
    assert refresh_budgets(at=NOON) == 1
    assert Budget.objects.get().spent == 80

    # Only what is still in suspense can come back whole; here all of it went to the platform.
    reverse_entry(entry=entry, at=NOON, acting_user=None)
    refresh_budgets(at=NOON)

    assert Budget.objects.get().spent == 0
    assert refresh_budgets(at=NOON) == 0


@pytest.mark.parametrize("limit", [0, -1, 1.5, 2**256])
def test_a_limit_that_is_no_amount_is_refused(payer, limit):
    with pytest.raises(InvalidAmount):
        budget(payer, limit=limit)

    assert not Budget.objects.exists()


def test_setting_and_dropping_leave_their_trace(payer):
    budget(payer)
    drop_budget(user=payer, acting_user=payer, at=NOON)
    drop_budget(user=payer, acting_user=payer, at=NOON)

    verbs = AuditEvent.objects.filter(actor=payer).order_by("id").values_list("verb", flat=True)
    assert [verb for verb in verbs if "budget" in verb] == [
        "ledger.budget_set",
        "ledger.budget_dropped",
    ]


def test_the_page_sets_shows_and_drops_it(client, payer):
    client.force_login(payer)
    page = client.post(reverse("ledger:budget"), {"limit": "2", "hard_stop": "on"}, follow=True)
    assert "Your budget is 2 OPEN a month; what could go over it is refused" in (
        page.content.decode()
    )
    now = timezone.now()
    spend(payer, OPEN, at=now)
    hold_for(payer, OPEN // 2, at=now, expires_at=now + timedelta(hours=1))

    shown = client.get(reverse("ledger:wallet")).context["budget"]
    assert (shown.spent, shown.held, shown.left, shown.percent) == (OPEN, OPEN // 2, OPEN // 2, 50)
    client.post(reverse("ledger:budget"), {"remove": "yes"})

    assert not Budget.objects.exists()
    wrong = client.post(reverse("ledger:budget"), {"limit": "none"}, follow=True)
    assert "notice--bad" in wrong.content.decode()


def test_the_api_sets_shows_and_drops_it(client, payer, stranger):
    address = reverse("api-budget")
    assert client.get(address).status_code in (401, 403)
    client.force_login(payer)
    assert client.get(address).status_code == 404
    body = {"limit": str(2 * OPEN), "hard_stop": True}

    answer = client.put(address, body, content_type="application/json")

    expected = {"limit": str(2 * OPEN), "hard_stop": True, "spent": "0", "held": "0"}
    assert answer.json() == expected | {"left": str(2 * OPEN)}
    bad = client.put(address, {"limit": "0"}, content_type="application/json")
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid_amount")
    client.force_login(stranger)
    assert client.get(address).status_code == 404
    client.force_login(payer)
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


def test_another_ones_spending_is_not_counted(payer, stranger):
    budget(stranger)
    fund(stranger, OPEN, number=7)

    spend(payer, 500)

    assert told(stranger) == []
