"""An instance without any chain keeps the same books; claims say that they wait for a chain."""

import pytest
from django.test import Client

from accounts.models import User
from config.reconciliation import check_chain
from ledger.models import Distribution, Entry, Intent
from ledger.reconciliation import check_ledger
from ledger.selectors import earnings
from ledger.services.faucet import give
from ledger.services.holds import Refs
from ledger.services.settlement import Credit, settle_suspense
from tests.ledger.books import FIRST, NOON, OPEN, capture, hold_for, link, person, publish

pytestmark = pytest.mark.django_db(transaction=True)
WHOLE = 10**9


@pytest.fixture
def lived(settings) -> User:
    """A fee was paid, split by a receipt's shares and published; returns who earned by it."""
    settings.CHAIN_ENABLED = False
    payer, builder, contributor = person("payer"), person("builder"), person("contributor")
    give(user=payer, amount=10 * OPEN, key="first", acting_user=payer, at=NOON)
    hold = hold_for(payer, 2 * OPEN, model_owner=builder)
    refs = Refs(model=hold.pk, completion=hold.cause_id)
    capture(hold, OPEN, refs=refs)
    share = Credit("contributor", contributor.pk, WHOLE)
    settle_suspense(completion_id=hold.cause_id, credits=[share], at=NOON)
    link(contributor, FIRST)
    publish()
    return contributor


def test_the_same_entries_are_written(lived):
    kinds = set(Entry.objects.values_list("kind", flat=True))
    assert kinds == {"GRANT", "HOLD", "CAPTURE", "SETTLEMENT", "DISTRIBUTION"}
    assert earnings(lived).available == 0
    assert not Intent.objects.exists()


def test_the_distribution_waits_as_a_draft_with_its_leaf(lived):
    distribution = Distribution.objects.get()
    assert distribution.state == Distribution.State.DRAFT
    assert distribution.leaves.get().cumulative == OPEN // 2


def test_a_claim_says_that_it_waits_for_a_chain(lived):
    client = Client()
    client.force_login(lived)
    told = client.get(f"/api/v1/payouts/{FIRST}/").json()
    assert told["code"] == "waiting_for_chain"
    assert told["proof"] is None
    assert "chain" in client.get("/earnings/").content.decode()


def test_nothing_is_sent_and_nothing_waits_for_a_worker_of_the_chain(lived):
    from ledger.tasks import index_chain, publish_distribution, send_intents

    for task in (send_intents, index_chain, publish_distribution):
        task()
    assert not Intent.objects.exists()


def test_the_books_are_equal_and_no_node_is_asked(lived):
    assert [finding.name for finding in check_ledger() if not finding.holds] == []
    assert check_chain() == []


def test_a_chain_that_comes_later_takes_the_draft_on(lived, settings, deployed):
    """What was published without a chain is claimed on one, since nothing expires."""
    from ledger.services.roots import advance_distributions

    advance_distributions(at=NOON)
    assert Distribution.objects.get().state == Distribution.State.FUNDING
    assert Intent.objects.get().kind == "FUND"
