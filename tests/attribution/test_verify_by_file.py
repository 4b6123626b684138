"""A file that was once uploaded leads to its records, versions, models, receipts and payments."""

import hashlib

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from accounts.blobs import put_bytes
from attribution import by_file
from attribution.models import Receipt
from datanets.models import Contribution, Datanet
from datanets.services.moderation import withdraw_record
from ledger.models import Account
from tests.attribution.world import NOON
from tests.ledger.books import balance_of

pytestmark = pytest.mark.django_db
FILE = b'{"text": "what alice once uploaded"}\n'
SHA256 = hashlib.sha256(FILE).hexdigest()
ADDRESS = "/verify/file/"


@pytest.fixture
def uploaded(world):
    """Alice's contribution is the one of the file."""
    Contribution.objects.filter(submitter=world.alice).update(
        file=put_bytes(FILE, "application/jsonl")
    )
    return world


def look(client, user=None, sha256=SHA256):
    if user:
        client.force_login(user)
    return client.get(ADDRESS, {"sha256": sha256})


def test_a_contributor_sees_records_versions_models_receipts_and_payments(client, uploaded):
    assert uploaded.build_index().state == "READY"
    receipt = uploaded.receipt()
    earned = balance_of(Account.Kind.EARNINGS, uploaded.alice.pk)
    found = by_file.report_of(SHA256, uploaded.alice)
    assert (found.record_count, found.share_count, found.named_count) == (12, 1, 1)
    assert found.earned == earned > 0
    assert [one.pk for one in found.versions] == [uploaded.version.pk]
    assert [one.held for one in found.versions] == [12]
    assert found.models == [uploaded.model]
    text = look(client, uploaded.alice).content.decode()
    for address in (
        f"/records/{uploaded.records[0].pk}",
        uploaded.version.get_absolute_url(),
        uploaded.model.get_absolute_url(),
        receipt.get_absolute_url(),
        "/earnings/",
    ):
        assert address in text
    assert "rows.jsonl" in text


def test_who_holds_a_copy_sees_what_is_public_and_no_payment(client, uploaded):
    assert uploaded.build_index().state == "READY"
    receipt = uploaded.receipt()
    assert Receipt.objects.exists()
    for user in (None, uploaded.stranger, uploaded.bob):
        client.logout()
        text = look(client, user).content.decode()
        assert uploaded.version.get_absolute_url() in text
        assert receipt.get_absolute_url() not in text
        # Whose contribution it was and how it was named stays theirs.
        assert "rows.jsonl" not in text


def test_of_what_is_not_public_strangers_see_nothing(client, uploaded):
    Datanet.objects.update(state="DRAFT")
    for user in (None, uploaded.stranger):
        text = look(client, user).content.decode()
        assert "Nothing that you may see came from this file" in text
        assert uploaded.datanet.name not in text
        assert by_file.report_of(SHA256, user or uploaded.stranger) is None
    assert by_file.report_of(SHA256, uploaded.alice).record_count == 12
    assert by_file.report_of(SHA256, uploaded.owner).record_count == 12
    assert by_file.report_of(SHA256, uploaded.owner).shares == []


def test_a_withdrawn_record_is_counted_and_its_words_are_gone(client, uploaded):
    withdraw_record(record=uploaded.records[3], acting_user=uploaded.alice, at=NOON)
    states = dict(by_file.report_of(SHA256, uploaded.stranger).brought[0].states)
    assert states == {"ACCEPTED": 11, "WITHDRAWN": 1}
    client.force_login(uploaded.stranger)
    text = look(client).content.decode()
    assert "no longer shown" in text
    assert uploaded.records[3].excerpt[:40] not in text


def test_a_posted_file_is_hashed_on_the_server(client, uploaded):
    answer = client.post(ADDRESS, {"file": SimpleUploadedFile("rows.jsonl", FILE)})
    assert answer.status_code == 302
    assert answer.url == f"{ADDRESS}?sha256={SHA256}"
    assert client.post(ADDRESS).status_code == 400


@pytest.mark.parametrize("asked", ["12", "z" * 64, "a" * 63, "' OR 1=1"])
def test_what_is_no_hash_is_told_so(client, db, asked):
    answer = client.get(ADDRESS, {"sha256": asked})
    assert answer.status_code == 400
    assert "no SHA-256" in answer.content.decode()


def test_the_output_of_sha256sum_is_a_hash():
    assert by_file.clean_sha256(f"{SHA256.upper()}  rows.jsonl\n") == SHA256


def test_the_page_without_a_file_says_what_to_do(client, db):
    assert reverse("attribution:verify_by_file") == ADDRESS
    assert "Drop the file here" in client.get(ADDRESS).content.decode()
    assert client.put(ADDRESS).status_code == 405
    assert "Nothing that you may see" in look(client, sha256="0" * 64).content.decode()
