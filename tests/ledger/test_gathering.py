"""A publication in parts: nobody sees half an epoch, and one that broke off is gone on with."""

from datetime import timedelta

import pytest
from django.urls import reverse

from accounts.models import AuditEvent
from ledger.models import Account, Distribution, DistributionCredit, Entry, PayoutAddress
from ledger.reconciliation import check_ledger
from ledger.selectors import earnings
from ledger.services import distributions
from ledger.setwise import leaves_under
from tests.ledger.books import FIRST, NOON, balance_of, earn, link, person, publish

pytestmark = pytest.mark.django_db
State = Distribution.State


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch):
    monkeypatch.setattr(distributions, "AT_ONCE", 2)


@pytest.fixture
def five(payer):
    """Five people with a wallet and 10, 11, … wei, in the order of their accounts."""
    people = []
    for number in range(5):
        one = person(f"earner-{number}")
        earn(one, 10 + number)
        link(one, f"0x{number + 1:040x}")
        people.append(one)
    return people


def begin(times=1, **changes):
    """What a process does that dies after `times` transactions."""
    values = {"at": NOON, "acting_user": None, "minimum": 1} | changes
    distribution = None
    for _ in range(times):
        distribution = distributions._gather_next(distribution, *values.values())
    return distribution


def books_hold():
    return all(finding.holds for finding in check_ledger())


def test_many_accounts_become_one_distribution_of_several_entries(five):
    distribution = publish()

    entries = Entry.objects.filter(kind=Entry.Kind.DISTRIBUTION, cause_id=distribution.pk)
    assert [entry.legs for entry in entries.order_by("id")] == [3, 3, 2]
    assert (distribution.state, distribution.amount, distribution.leaf_count) == ("DRAFT", 60, 5)
    assert sorted(dict(leaves_under(1)).values()) == [10, 11, 12, 13, 14]
    assert balance_of(Account.Kind.ESCROW) == 60
    assert books_hold()


def test_nobody_sees_an_epoch_that_is_being_gathered(client, five):
    distribution = begin()

    assert (distribution.state, distribution.amount) == (State.GATHERING, 21)
    assert not Distribution.objects.exists()
    for address in (
        reverse("ledger:distribution", args=[distribution.pk]),
        reverse("api-distribution", args=[distribution.pk]),
    ):
        assert client.get(address).status_code == 404
    assert "Distribution 1" not in client.get(reverse("ledger:distributions")).content.decode()
    assert not AuditEvent.objects.filter(verb="ledger.distribution_published").exists()
    assert books_hold()


def test_whose_earnings_are_in_it_is_told_so(client, five):
    begin()

    found = earnings(five[0])
    assert (found.available, found.pending_total) == (0, 10)
    assert "being gathered" in found.pending[0].reason
    client.force_login(five[0])
    page = client.get(reverse("ledger:earnings"))
    assert "being gathered" in page.content.decode()
    entry = Entry.objects.get(kind=Entry.Kind.DISTRIBUTION)
    assert client.get(reverse("ledger:entry", args=[entry.pk])).status_code == 200


@pytest.mark.parametrize("times", [1, 2])
def test_one_that_broke_off_is_ended_by_the_next_call(five, times):
    begun = begin(times)

    ended = publish()

    assert (ended.pk, ended.epoch, ended.amount) == (begun.pk, 1, 60)
    assert DistributionCredit.objects.count() == 5
    assert publish() is None
    assert books_hold()


def test_beat_ends_one_that_broke_off_and_leaves_one_that_goes_on(five):
    begin()

    assert distributions.resume_publication(at=NOON + timedelta(minutes=5)) is None
    assert distributions.resume_publication(at=NOON + timedelta(minutes=6)).amount == 60
    assert distributions.resume_publication(at=NOON + timedelta(minutes=60)) is None


def test_what_holds_at_its_beginning_holds_to_its_end(five):
    begin(minimum=12)

    ended = publish(minimum=1)

    assert ended.amount == 12 + 13 + 14
    assert publish(minimum=1).amount == 21


def test_two_that_work_beside_each_other_end_one_distribution(five):
    first = begin()
    second = distributions._gather_next(None, NOON, None, 1)
    first = distributions._gather_next(first, NOON, None, 1)

    assert second.pk == first.pk
    assert first.state == State.DRAFT
    # The slower one finds it ended, and does not begin the next.
    earn(five[0], 1, 7)
    assert distributions._gather_next(second, NOON, None, 1).pk == first.pk
    assert Distribution.every.count() == 1


def test_a_wallet_that_changes_hands_meanwhile_has_one_leaf(five):
    begin()
    five[0].wallets.all().delete()
    five[4].wallets.all().delete()
    taken = f"0x{1:040x}"
    link(five[4], taken)

    first = publish()

    payee = PayoutAddress.objects.get(address=taken)
    assert [leaf.cumulative for leaf in payee.leaves.all()] == [10]
    assert first.amount == 10 + 11 + 12 + 13
    second = publish()
    assert [leaf.cumulative for leaf in payee.leaves.order_by("id")] == [10, 24]
    assert (second.epoch, second.amount) == (2, 14)
    assert books_hold()


def test_what_is_earned_behind_it_waits_for_the_next_epoch(five):
    begin()
    earn(five[0], 5, 7)

    assert publish().amount == 60
    assert publish().amount == 5
    assert dict(leaves_under(2))[f"0x{1:040x}"] == 15
    assert FIRST not in dict(leaves_under(2))


def test_its_page_names_all_of_its_entries(client, five):
    distribution = publish()

    page = client.get(reverse("ledger:distribution", args=[distribution.pk]))

    assert "in 3 entries" in page.content.decode()
    for entry in Entry.objects.filter(kind=Entry.Kind.DISTRIBUTION):
        assert reverse("ledger:entry", args=[entry.pk]) in page.content.decode()
