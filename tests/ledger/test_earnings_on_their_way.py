"""What waits: for a receipt, for publication, for the chain; why, until when, what is behind."""

from datetime import timedelta

import pytest
from django.urls import reverse

from accounts import pages
from accounts.ids import uuid7
from ledger import earnings
from ledger.models import Account
from ledger.services.holds import Refs
from ledger.services.settlement import Credit, settle_suspense
from tests.ledger.books import (
    FIRST,
    NOON,
    activate,
    capture,
    earn,
    fund,
    hold_for,
    link,
    publish,
)

pytestmark = pytest.mark.django_db


def told(user, at=NOON):
    return [(one.amount, one.is_bound, one.until) for one in earnings.waiting(user, at)]


@pytest.fixture
def settled(payer, contributor):
    """500 wei earned from one answer of a model."""
    model = uuid7()
    hold = hold_for(payer, 1000)
    capture(hold, 1000, refs=Refs(model=model, completion=hold.cause_id))
    credits = [Credit("contributor", contributor.pk, 10**9, uuid7(), model)]
    settle_suspense(completion_id=hold.cause_id, at=NOON, credits=credits)
    return model


def test_nothing_waits_for_a_newcomer(stranger):
    assert told(stranger) == []


def test_without_a_wallet_it_waits_for_one(contributor, settled):
    (only,) = earnings.waiting(contributor, NOON)

    assert (only.amount, only.until) == (500, None)
    assert "link a wallet" in only.until_words


def test_with_a_wallet_it_waits_for_the_next_distribution(contributor, settled, settings):
    link(contributor, FIRST)

    assert told(contributor) == [
        (500, False, NOON + timedelta(seconds=settings.DISTRIBUTION_SECONDS))
    ]


def test_answers_without_a_receipt_are_a_bound_that_others_share(payer, contributor, settled):
    link(contributor, FIRST)
    hold = hold_for(payer, 300)
    capture(hold, 300, refs=Refs(model=settled, completion=hold.cause_id))
    strange = hold_for(payer, 800)
    capture(strange, 800, refs=Refs(model=uuid7(), completion=strange.cause_id))

    first = earnings.waiting(contributor, NOON)[0]

    assert (first.amount, first.is_bound) == (150, True)
    suspense = Account.objects.get(kind="SUSPENSE", owner_id=hold.cause_id)
    assert first.url == pages.url("account", suspense.pk)


def test_what_is_published_waits_for_the_chain_and_its_delay(contributor, settled, deployed):
    link(contributor, FIRST)
    distribution = publish()
    assert told(contributor) == [(500, False, None)]
    distribution.state, distribution.activates_at = "ROOT_SUBMITTED", NOON + timedelta(hours=1)
    distribution.save()

    assert told(contributor) == [(500, False, NOON + timedelta(hours=1))]
    activate(distribution)

    assert told(contributor) == []


def test_the_page_and_the_api_tell_it(client, contributor, settled):
    client.force_login(contributor)

    page = client.get(reverse("ledger:earnings")).content.decode()
    told = client.get(reverse("api-earnings-waiting")).json()

    assert "On its way to you" in page
    assert [(one["amount"], one["until"]) for one in told] == [("500", None)]
    assert client.get(reverse("api-earnings-groups")).json()["model"][0]["amount"] == "500"
    entries = client.get(reverse("api-earnings-entries"), {"model": str(settled)}).json()
    assert [row["amount"] for row in entries["results"]] == ["500"]
    assert entries["results"][0]["receipt"] == pages.url(
        "receipt_of_completion", entries["results"][0]["completion_id"]
    )
    none = client.get(reverse("api-earnings-entries"), {"model": "none"}).json()
    assert none["results"] == []


@pytest.mark.parametrize("name", ["entries", "groups", "waiting"])
def test_a_stranger_gets_nothing_of_others(client, stranger, contributor, settled, name):
    address = reverse(f"api-earnings-{name}")
    assert client.get(address).status_code in (401, 403)
    client.force_login(stranger)

    assert "500" not in client.get(address).content.decode()


def test_the_receipt_is_behind_a_figure_and_the_answer_is_the_payers(client, contributor, settled):
    earn(contributor, 9)
    fund(contributor, 1)
    client.force_login(contributor)

    page = client.get(reverse("ledger:earnings_entries")).content.decode()

    assert "/receipts/for/" in page
    assert "/completions/" not in page.split("<main", 1)[1]
