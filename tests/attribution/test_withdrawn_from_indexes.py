"""A withdrawn record leaves the indexes of the models that learnt from it; old receipts stay."""

import pytest
from django.urls import reverse

from accounts import leases
from attribution import selectors, workers
from attribution.models import Index, PastIndex
from attribution.services import indexes
from attribution.tasks import record_withheld
from attribution.verification import verify_receipt
from datanets.models import Record
from datanets.services.moderation import withdraw_record
from ledger.models import Account
from tests.attribution.world import NOON, SPLIT, payload, queued
from tests.ledger.books import balance_of
from tests.modelfactory.world import add_records

pytestmark = pytest.mark.django_db


def address(root: str, name: str) -> str:
    return reverse("attribution:index_file", args=[root, name])


def withdraw(world, record: Record) -> None:
    withdraw_record(record=record, acting_user=record.contributor, at=NOON)
    record_withheld({"record_id": str(record.pk)})


def test_the_record_is_taken_out_and_the_others_stay_to_the_byte(indexed, monkeypatch):
    before = workers.index_files.open_index(Index.objects.get())
    record = indexed.records[5]
    withdraw(indexed, record)
    index = Index.objects.get()
    assert (index.state, index.root) == ("QUEUED", before.manifest.root)
    assert queued("build_index") == [[str(index.pk)]]
    monkeypatch.setattr(workers, "build_with", None)  # nothing is built from nothing
    workers.build_index(index.pk)

    index.refresh_from_db()
    after = workers.index_files.open_index(index)
    assert index.state == "READY"
    assert after.manifest.header["revises"] == before.manifest.root
    assert after.committed_root() == index.root != before.manifest.root
    assert sorted(after.manifest.counts.values()) == [10, 12]
    rows = [row for row, entry in enumerate(before.records) if entry.record_id != str(record.pk)]
    assert [before.records[row] for row in rows] == after.records
    bobs = [row for row in rows if before.records[row].group_id.startswith(str(indexed.bob.pk))]
    kept = [after.records.index(before.records[row]) for row in bobs]
    assert before.codes[bobs].tobytes() == after.codes[kept].tobytes()


def test_old_receipts_hold_by_the_old_root_and_new_ones_name_the_new(client, indexed):
    old = indexed.receipt()
    top = old.record_influences.first().record
    withdraw(indexed, top)
    assert verify_receipt(old).holds  # while the new index is waited for
    attribution = indexed.ask()
    workers.attribute(attribution.pk)
    attribution.refresh_from_db()
    assert attribution.state == "QUEUED"
    workers.build_index(Index.objects.get().pk)

    new = indexed.receipt()
    root = Index.objects.get().root
    assert new.public["index_root"] == root != old.public["index_root"]
    assert not new.record_influences.filter(record=top).exists()
    assert verify_receipt(old).holds
    assert verify_receipt(new).holds
    page = client.get(reverse("attribution:index", args=[old.public["index_root"]]))
    assert page.status_code == 200
    assert reverse("attribution:index", args=[root]) in page.content.decode()


def test_files_of_a_past_index_are_for_nobody_but_its_manifest_is_for_all(client, indexed):
    old = Index.objects.get().root
    client.force_login(indexed.owner)
    assert client.get(address(old, "codes.npy")).status_code == 200
    withdraw(indexed, indexed.records[5])
    workers.build_index(Index.objects.get().pk)
    assert client.get(address(old, "codes.npy")).status_code == 404
    assert client.get(address(old, "manifest.json")).json()["root"] == old
    new = Index.objects.get().root
    assert client.get(address(new, "codes.npy")).status_code == 200


def test_several_withdrawals_are_one_new_index(indexed):
    for record in indexed.records[5:8]:
        withdraw(indexed, record)
    assert len(queued("build_index")) == 1
    workers.build_index(Index.objects.get().pk)
    assert sorted(Index.objects.get().manifest["groups"], key=lambda g: g["count"])[0]["count"] == 8
    assert PastIndex.objects.count() == 1


def test_a_withdrawal_during_a_build_is_asked_again(indexed):
    index = Index.objects.get()
    withdraw(indexed, indexed.records[5])
    owner = leases.worker_name()
    assert indexes.claim(index_id=index.pk, owner=owner, at=NOON)
    withdraw(indexed, indexed.records[6])
    assert queued("revise_indexes") == [[str(indexed.records[6].pk)]]


def test_a_record_of_no_version_asks_for_nothing(indexed):
    [record] = add_records(indexed.datanet, indexed.alice, [payload("roof", 1)])
    assert indexes.request_revisions(record_id=record.pk, at=NOON) == []


def test_a_method_that_changed_since_means_a_build_from_nothing(indexed, monkeypatch):
    index = Index.objects.get()
    monkeypatch.setattr(workers, "METHOD_VERSION", 99)
    monkeypatch.setattr(workers, "remove", None)
    withdraw(indexed, indexed.records[5])
    workers.build_index(index.pk)
    index.refresh_from_db()
    assert (index.state, "revises" in index.manifest["header"]) == ("READY", False)


def test_without_any_record_it_says_so(indexed):
    for record in indexed.records:
        withdraw(indexed, record)
    workers.build_index(Index.objects.get().pk)
    index = Index.objects.get()
    assert (index.state, index.failure_reason) == (
        "FAILED",
        "No record would be left in the index.",
    )
    assert selectors.index_by_root(index.root) == index


def test_without_any_record_the_treasury_is_paid(indexed):
    for record in indexed.records:
        withdraw(indexed, record)
    workers.build_index(Index.objects.get().pk)
    receipt = indexed.receipt()
    assert receipt.outcome == "NO_POSITIVE_INFLUENCE"
    assert receipt.shares.get().kind == "TREASURY"
    paid = SPLIT.amounts(receipt.fee)["contributors"]
    assert balance_of(Account.Kind.TREASURY, indexed.datanet.pk) == paid
    report = verify_receipt(receipt)
    assert report.holds, report.checks


def test_files_of_an_index_that_shall_be_replaced_are_for_nobody(client, indexed):
    root = Index.objects.get().root
    client.force_login(indexed.owner)
    assert client.get(address(root, "codes.npy")).status_code == 200
    withdraw(indexed, indexed.records[5])
    assert client.get(address(root, "codes.npy")).status_code == 404
    assert client.get(address(root, "manifest.json")).status_code == 200
