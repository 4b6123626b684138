"""The leaderboards of all time: kept added up, and at every moment the sum of all rows."""

from datetime import timedelta

import pytest
from django.db.models import Count, F, Sum
from django.utils import timezone

from attribution import graph, totals
from attribution.models import ContributorShare, CreditHorizon, CreditTotal, Receipt
from attribution.services.totals import LAG, add_up
from ledger.models import Hold
from ledger.services.refunds import refund_fee

pytestmark = pytest.mark.django_db
NOW = timezone.now()
SOON = NOW + timedelta(hours=1)


def of_all_rows(kind):
    """The same by reading every row, as a period does."""
    field, name = graph.KINDS[kind]
    standing = graph.with_answering(totals.paid_by_others(kind, graph._standing("all", SOON)))
    rows = standing.filter(**{f"{field}__isnull": False}).order_by()
    rows = rows.values(pk=F(field), name=F(name)).annotate(
        amount=Sum(F("amount") - F("passed_on")), answers=Count("receipt", distinct=True)
    )
    return sorted(rows, key=lambda row: (-row["amount"], row["name"]))


def agrees(user):
    for kind in graph.KINDS:
        assert list(graph.leaders(kind, user, at=SOON)) == of_all_rows(kind)


def refund(receipt, staff, at=SOON):
    hold = Hold.objects.get(cause_id=receipt.completion_id)
    refund_fee(hold=hold, reason="Broken answer.", acting_user=staff, at=at)


def test_it_is_the_sum_of_all_rows_before_between_and_after_adding_up(indexed):
    agrees(indexed.stranger)
    indexed.receipt()
    agrees(indexed.stranger)
    assert add_up(at=SOON) == 1
    agrees(indexed.stranger)
    assert CreditTotal.objects.filter(model__isnull=False).get().answers == 1
    later = indexed.receipt()
    Receipt.objects.filter(pk=later.pk).update(created_at=SOON)
    agrees(indexed.stranger)
    assert add_up(at=SOON + LAG) == 1
    agrees(indexed.stranger)
    assert CreditTotal.objects.filter(model__isnull=False).get().answers == 2
    assert add_up(at=SOON + 2 * LAG) == 0


def test_what_is_too_young_is_left_for_the_next_time(indexed):
    receipt = indexed.receipt()
    assert add_up(at=receipt.created_at + LAG - timedelta(seconds=1)) == 0
    assert not CreditTotal.objects.exists()
    agrees(indexed.stranger)


def test_what_is_given_back_is_taken_out_whenever_it_is(indexed):
    first, second, third = (indexed.receipt() for _ in range(3))
    refund(first, indexed.staff, at=NOW)  # before it is added up
    agrees(indexed.stranger)
    add_up(at=SOON)
    agrees(indexed.stranger)
    refund(second, indexed.staff)  # after, and not yet taken out of the totals
    agrees(indexed.stranger)
    add_up(at=SOON + LAG)
    agrees(indexed.stranger)
    assert CreditTotal.objects.get(model=indexed.model).answers == 1
    # Written after the refund of its fee: never counted.
    refund(third, indexed.staff, at=SOON + timedelta(seconds=1))
    Receipt.objects.filter(pk=third.pk).update(created_at=SOON + timedelta(seconds=2))
    CreditTotal.objects.all().delete()
    CreditHorizon.objects.all().delete()
    add_up(at=SOON + LAG + timedelta(seconds=1))
    add_up(at=SOON + LAG + timedelta(minutes=1))
    agrees(indexed.stranger)
    assert len(graph.leaders("contributors", indexed.stranger, at=SOON)) == 0


def test_it_goes_on_step_by_step(indexed, monkeypatch):
    monkeypatch.setattr("attribution.services.totals.STEP", 1)
    for number in range(4):
        receipt = indexed.receipt()
        Receipt.objects.filter(pk=receipt.pk).update(created_at=NOW + timedelta(seconds=number))
    assert add_up(at=SOON) == 2
    agrees(indexed.stranger)
    assert CreditTotal.objects.get(model=indexed.model).answers == 4


def test_a_page_reads_no_row_that_is_in_the_totals(indexed, monkeypatch):
    indexed.receipt()
    add_up(at=SOON)
    read = []
    real = totals._sums
    monkeypatch.setattr(totals, "_sums", lambda kind, rows: read.append(rows) or real(kind, rows))
    assert graph.leaders("contributors", indexed.stranger, at=SOON)[:25]
    assert [rows.count() for rows in read] == [0, 0]
    assert ContributorShare.objects.exists()


def test_totals_that_are_added_up_meanwhile_count_once(indexed, monkeypatch):
    indexed.receipt()
    board = graph.leaders("models", indexed.stranger, at=SOON)
    add_up(at=SOON)
    assert board[:25] == of_all_rows("models")


def test_nobody_sees_a_hidden_models_name_in_the_totals(indexed):
    indexed.receipt()
    add_up(at=SOON)
    type(indexed.model).objects.update(state="DRAFT")
    assert list(graph.leaders("models", indexed.stranger, at=SOON)) == []
