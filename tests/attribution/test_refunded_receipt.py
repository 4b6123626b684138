"""A receipt stays as it was written when its fee is given back, and says beside it that it was."""

import pytest

from attribution.bodies import Evidence
from attribution.groups import Group
from attribution.models import Receipt
from attribution.services import receipts, writing
from config.reconciliation import check_log
from ledger.models import Account
from ledger.reconciliation import check_ledger
from ledger.services.refunds import refund_fee, refundable
from tests.attribution.world import NOON
from tests.ledger.books import OPEN, balance_of

pytestmark = pytest.mark.django_db


def receipt_for(world, attribution):
    group = str(Group(world.alice.pk, world.datanet.pk, world.version.pk))
    evidence = Evidence(influences={group: 5}, counts={group: 1})
    assert receipts.claim(attribution_id=attribution.pk, owner="w", at=NOON)
    return writing.write_receipt(
        attribution_id=attribution.pk, owner="w", evidence=evidence, at=NOON
    )


def give_back(world, completion_id):
    values = {"reason": "It answered nothing.", "acting_user": world.staff, "at": NOON}
    return refund_fee(hold=refundable(completion_id), **values)


def holds_together():
    return [one.name for one in (*check_ledger(), *check_log()) if not one.holds] == []


def test_the_page_and_the_api_say_that_the_fee_was_given_back(world, client):
    receipt = receipt_for(world, world.ask())
    public, url = receipt.public, f"/receipts/{receipt.pk}/"
    assert "given back" not in client.get(url).content.decode()
    assert client.get(f"/api/v1/receipts/{receipt.pk}/").json()["refunded"] is None
    refund = give_back(world, receipt.completion_id)

    assert balance_of(Account.Kind.USER, world.payer.pk) == OPEN
    page = client.get(url).content.decode()
    assert "This fee was given back" in page
    assert f"/explorer/entries/{refund.entry_id}/" in page
    assert "It answered nothing." not in page
    told = client.get(f"/api/v1/receipts/{receipt.pk}/").json()
    assert told["refunded"] == str(receipt.fee)
    assert Receipt.objects.get(pk=receipt.pk).public == public
    assert holds_together()


def test_only_staff_find_the_way_to_give_it_back(world, client):
    receipt = receipt_for(world, world.ask())
    link = f"/staff/money/?completion={receipt.completion_id}"
    client.force_login(world.payer)
    assert link not in client.get(f"/receipts/{receipt.pk}/").content.decode()
    client.force_login(world.staff)
    assert link in client.get(f"/receipts/{receipt.pk}/").content.decode()


def test_refunded_before_its_receipt_a_completion_gets_one_that_settled_nothing(world):
    attribution = world.ask()
    give_back(world, attribution.completion_id)
    receipt = receipt_for(world, attribution)
    assert (receipt.amount, receipt.entry_id) == (0, None)
    assert balance_of(Account.Kind.EARNINGS, world.alice.pk) == 0
    assert holds_together()
