"""Erasure takes salts and sketch away, and leaves the log, the shares and the payments valid."""

import hashlib

import pytest
from django.core.exceptions import PermissionDenied
from django.core.files.storage import default_storage
from django.urls import reverse

from accounts.models import AuditEvent, Blob
from attribution.models import Attribution
from attribution.reconciliation import check_tree
from attribution.services.erasure import erase_private_part
from attribution.verification import verify_receipt
from tests.attribution.world import NOON

pytestmark = pytest.mark.django_db


@pytest.fixture
def receipt(indexed):
    return indexed.receipt()


def erase(client, receipt, user):
    client.force_login(user)
    return client.post(reverse("attribution:erase", args=[receipt.pk]))


def test_the_payer_erases_and_the_log_stays_valid(
    client, indexed, receipt, django_capture_on_commit_callbacks
):
    sketch = Blob.objects.get(pk=receipt.sketch_id)
    shares = list(receipt.shares.values_list("contributor", "amount"))
    assert default_storage.exists(sketch.path)
    with django_capture_on_commit_callbacks(execute=True):
        assert erase(client, receipt, indexed.payer).status_code == 302
    receipt.refresh_from_db()
    assert (receipt.private, receipt.sketch_id) == ({}, None)
    assert not receipt.record_influences.exists()
    assert not Blob.objects.filter(pk=sketch.pk).exists()
    assert not default_storage.exists(sketch.path)
    assert list(receipt.shares.values_list("contributor", "amount")) == shares
    assert verify_receipt(receipt).holds
    assert all(finding.holds for finding in check_tree())
    assert AuditEvent.objects.get(verb="attribution.private_erased").actor == indexed.payer


def test_afterwards_not_even_the_right_prompt_matches(client, indexed, receipt):
    erase(client, receipt, indexed.payer)
    receipt.refresh_from_db()
    prompt = b"What is door number 3?"
    kept = str(receipt.public).encode() + str(receipt.private).encode()
    words = {part.encode() for part in kept.decode().replace("'", " ").split() if len(part) == 64}
    # Every 32 bytes that are still there, tried as the salt.
    tried = [bytes.fromhex(w.decode()) for w in words if all(c in b"0123456789abcdef" for c in w)]
    assert len(tried) > 3
    for salt in [b"", *tried]:
        assert hashlib.sha256(salt + prompt).hexdigest() != receipt.public["prompt_sha256"]


def test_a_second_time_there_is_nothing_left(indexed, receipt):
    assert erase_private_part(receipt=receipt, acting_user=indexed.staff, at=NOON)
    assert not erase_private_part(receipt=receipt, acting_user=indexed.staff, at=NOON)


@pytest.mark.parametrize("who", ["alice", "stranger", "builder"])
def test_nobody_else_erases(client, indexed, receipt, who):
    user = getattr(indexed, who)
    client.force_login(user)
    assert client.get(reverse("attribution:erase", args=[receipt.pk])).status_code == 404
    assert erase(client, receipt, user).status_code == 404
    with pytest.raises(PermissionDenied):
        erase_private_part(receipt=receipt, acting_user=user, at=NOON)
    receipt.refresh_from_db()
    assert receipt.private


def test_a_stranger_is_asked_to_sign_in(client, receipt):
    assert client.post(reverse("attribution:erase", args=[receipt.pk])).status_code == 302
    receipt.refresh_from_db()
    assert receipt.private


def test_the_pages_say_so(client, indexed, receipt):
    client.force_login(indexed.payer)
    assert (
        "for good" in client.get(reverse("attribution:erase", args=[receipt.pk])).content.decode()
    )
    erase(client, receipt, indexed.payer)
    page = client.get(reverse("attribution:receipt", args=[receipt.pk])).content.decode()
    assert "The private part was erased" in page
    assert client.get(reverse("attribution:private", args=[receipt.pk])).json()["private"] is None
    assert client.get(reverse("api-receipt-private", args=[receipt.pk])).json()["private"] is None


def test_nor_does_what_was_retrieved_stay_beside_it(indexed, receipt):
    stated = {"method": {}, "reward_ppb": 0, "records": [{"record": "a", "group": "b"}]}
    Attribution.objects.filter(pk=receipt.attribution_id).update(retrieval=stated)
    erase_private_part(receipt=receipt, acting_user=indexed.payer, at=NOON)
    assert Attribution.objects.get(pk=receipt.attribution_id).retrieval is None
