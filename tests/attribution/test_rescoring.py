"""An answer is scored once more: a new receipt names the old one, and no money moves."""

import copy
import json
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, transaction
from django.urls import reverse

from accounts import leases
from accounts.models import AuditEvent, Blob
from attribution import rescoring, texts, workers
from attribution.models import Index, LogLeaf, Receipt, Rescoring
from attribution.reconciliation import check_tree
from attribution.selectors import bundle_of
from attribution.services import rescorings
from attribution.services.erasure import erase_private_part
from attribution.services.log import sequence
from attribution.services.rescorings import CannotRescoreError, request_rescoring
from attribution.tasks import record_withheld
from attribution.texts import Texts
from attribution.translog import canonical
from attribution.translog.verify import verify
from attribution.verification import verify_receipt
from datanets.services.moderation import withdraw_record
from ledger.models import Entry, Posting
from modelfactory.training.prompts import load_tokenizer, render_prompt
from tests.attribution.test_browser_verifier import judge
from tests.attribution.world import NOON, STARTER, queued

pytestmark = pytest.mark.django_db

PROMPT = "What is door number 3?"
ANSWER = "The door 3 is a door of the house. The window 4 is a window of the house."


@pytest.fixture
def kept(monkeypatch):
    """What the app that answered keeps of each answer; here the same of all."""
    tokenizer = load_tokenizer(STARTER)
    found = Texts(
        PROMPT,
        ANSWER,
        render_prompt([{"role": "user", "content": PROMPT}], tokenizer),
        tokenizer.encode(ANSWER),
    )
    sources = [lambda completion_id: found]
    monkeypatch.setattr(texts, "_sources", sources)
    return sources


@pytest.fixture
def receipt(indexed, kept):
    return indexed.receipt(answer=ANSWER)


def withdraw_the_strongest(world, receipt):
    """Another index, so that the shares are others."""
    record = receipt.record_influences.first().record
    withdraw_record(record=record, acting_user=record.contributor, at=NOON)
    record_withheld({"record_id": str(record.pk)})
    workers.build_index(Index.objects.get().pk)


def rescored(receipt, user):
    row = request_rescoring(receipt=receipt, acting_user=user, at=NOON)
    rescoring.rescore(row.pk)
    sequence(at=NOON)
    row.refresh_from_db()
    return row


def failed_checks(bundle):
    return {check.name for check in verify(bundle).checks if check.holds is False}


def test_a_new_receipt_names_the_old_one_which_stays(indexed, receipt):
    before = dict(receipt.public)
    entries, postings = Entry.objects.count(), Posting.objects.count()
    withdraw_the_strongest(indexed, receipt)
    row = rescored(receipt, indexed.alice)

    assert (row.state, row.asked_as) == ("DONE", "contributor")
    assert row.public["rescores"] == {"receipt": str(receipt.pk), "sha256": receipt.body_sha256}
    assert row.public["index_root"] == Index.objects.get().root != before["index_root"]
    assert row.public["difference"]
    assert sum(row.public["shares"].values()) == 10**9
    assert sum(row.public["difference"].values()) == 0
    assert (row.public["moves_money"], "credits" in row.public) == (False, False)
    assert (Entry.objects.count(), Posting.objects.count()) == (entries, postings)
    receipt.refresh_from_db()
    assert receipt.public == before
    assert row.log_index > receipt.log_index
    assert verify_receipt(row).holds
    assert verify_receipt(receipt).holds
    assert all(finding.holds for finding in check_tree())
    verbs = AuditEvent.objects.filter(target_id=row.pk).values_list("verb", flat=True)
    assert set(verbs) == {"attribution.rescoring_requested", "attribution.receipt_rescored"}


def test_asked_again_it_is_the_same_until_the_index_is_another(indexed, receipt):
    first = request_rescoring(receipt=receipt, acting_user=indexed.payer, at=NOON)
    assert request_rescoring(receipt=receipt, acting_user=indexed.alice, at=NOON) == first
    rescoring.rescore(first.pk)
    assert request_rescoring(receipt=receipt, acting_user=indexed.staff, at=NOON) == first
    assert queued("rescore") == [[str(first.pk)]]
    rescoring.rescore(first.pk)  # its message comes twice
    assert LogLeaf.objects.filter(receipt_id=first.pk).count() == 1
    withdraw_the_strongest(indexed, receipt)
    second = request_rescoring(receipt=receipt, acting_user=indexed.payer, at=NOON)
    assert (second.pk != first.pk, second.state) == (True, "QUEUED")


def test_strangers_are_refused_and_what_cannot_be_scored_says_so(indexed, receipt):
    for who in (indexed.stranger, indexed.builder):
        with pytest.raises(PermissionDenied):
            request_rescoring(receipt=receipt, acting_user=who, at=NOON)
    for asked, words in (({"base_only": True}, "base model"), ({"answer": ""}, "no tokens")):
        with pytest.raises(CannotRescoreError, match=words):
            request_rescoring(receipt=indexed.receipt(**asked), acting_user=indexed.payer, at=NOON)
    erase_private_part(receipt=receipt, acting_user=indexed.payer, at=NOON)
    with pytest.raises(CannotRescoreError, match="erased"):
        request_rescoring(receipt=receipt, acting_user=indexed.payer, at=NOON)


def test_texts_that_are_gone_or_others_fail_with_a_reason_and_are_tried_again(
    indexed, receipt, kept
):
    true = kept[0](receipt.completion_id)
    kept[0] = lambda completion_id: None
    row = rescored(receipt, indexed.payer)
    assert "keeps" in row.failure_reason
    kept[0] = lambda completion_id: Texts("Another?", ANSWER, true.prompt_ids, true.answer_ids)
    assert request_rescoring(receipt=receipt, acting_user=indexed.payer, at=NOON) == row
    rescoring.rescore(row.pk)
    row.refresh_from_db()
    assert (row.state, "not those" in row.failure_reason) == ("FAILED", True)
    kept[0] = lambda completion_id: true
    assert rescored(receipt, indexed.payer).state == "DONE"


def test_it_waits_for_an_index_and_survives_a_worker_that_died(indexed, receipt):
    row = request_rescoring(receipt=receipt, acting_user=indexed.payer, at=NOON)
    Index.objects.update(state="QUEUED")
    rescoring.rescore(row.pk)
    row.refresh_from_db()
    assert (row.state, len(queued("rescore"))) == ("QUEUED", 2)
    Index.objects.update(state="READY")
    assert rescorings.claim(rescoring_id=row.pk, owner="dead", at=NOON)
    leases.sweep(at=NOON + settings.WORK_LEASE + timedelta(seconds=1))
    row.refresh_from_db()
    assert (row.state, row.lease_owner) == ("QUEUED", "")
    row = rescored(receipt, indexed.payer)
    assert row.state == "DONE"
    rescorings.fail(row.pk, "Late.", NOON, owner="dead")
    with pytest.raises(ProgrammingError), transaction.atomic():
        Rescoring.objects.filter(pk=row.pk).update(state="FAILED")


def test_what_was_written_is_never_changed(indexed, receipt):
    row = rescored(receipt, indexed.payer)
    for change in ({"public": {}}, {"state": "QUEUED"}, {"body_sha256": "0" * 64}):
        with pytest.raises(ProgrammingError), transaction.atomic():
            Rescoring.objects.filter(pk=row.pk).update(**change)
    with pytest.raises(ProgrammingError), transaction.atomic():
        Rescoring.objects.filter(pk=row.pk).delete()


def test_erasing_the_first_erases_this_one_too(
    indexed, receipt, django_capture_on_commit_callbacks
):
    withdraw_the_strongest(indexed, receipt)
    row = rescored(receipt, indexed.payer)
    with django_capture_on_commit_callbacks(execute=True):
        erase_private_part(receipt=receipt, acting_user=indexed.payer, at=NOON)
    sketches = {row.sketch_id, receipt.sketch_id}
    row.refresh_from_db()
    assert (row.private, row.sketch_id) == ({}, None)
    assert not Blob.objects.filter(pk__in=sketches).exists()
    assert verify_receipt(row).holds


def test_every_lie_about_the_first_receipt_is_found(indexed, receipt):
    withdraw_the_strongest(indexed, receipt)
    true = bundle_of(rescored(receipt, indexed.payer))
    assert failed_checks(true) == set()

    def check(change, *expected):
        bundle = copy.deepcopy(true)
        change(bundle)
        assert set(expected) <= failed_checks(bundle), expected

    group = next(iter(true["receipt"]["difference"]))
    check(lambda b: b["named"]["receipt"]["shares"].update({group: 1}), "first receipt")
    check(lambda b: b["named"].update(index=true["index"]), "first receipt")
    check(lambda b: b["named"]["proof"].append("00" * 32), "first receipt")
    check(lambda b: b.pop("named"), "first receipt", "difference")
    check(lambda b: b["receipt"]["rescores"].update(sha256="0" * 64), "first receipt")
    check(lambda b: b["receipt"].update(prompt_sha256="0" * 64), "first receipt", "receipt")
    check(lambda b: b["receipt"]["difference"].update({group: 5}), "difference")
    check(lambda b: b["receipt"].update(credits=[], contributors_amount="0"), "difference")
    check(lambda b: b["receipt"]["shares"].clear(), "shares", "difference")


def test_every_verifier_finds_an_outcome_that_does_not_follow(indexed, receipt):
    """Whatever it states in place of CREDITED; and that influence is clear, where it is not."""
    true = bundle_of(rescored(receipt, indexed.payer))
    assert true["receipt"]["outcome"] == "CREDITED"
    flipped = []
    for outcome in set(Receipt.Outcome.values) - {"CREDITED"}:
        flipped.append(copy.deepcopy(true))
        flipped[-1]["receipt"]["outcome"] = outcome
    unclear = copy.deepcopy(true)
    unclear["receipt"]["confidence"]["threshold"] = 10**9
    for wrong in flipped:
        assert "outcome" in failed_checks(wrong), wrong["receipt"]["outcome"]
    assert "confidence" in failed_checks(unclear)
    # A body that is hashed with the lie in it, as whoever runs the house could have it.
    row = Rescoring.objects.get()
    row.public = {**row.public, "outcome": "NO_POSITIVE_INFLUENCE"}
    row.body_sha256 = canonical.sha256(row.public)
    found = {one.name for one in verify_receipt(row).checks if one.holds is False}
    assert {"outcome", "public part"} <= found
    said = judge(true, *flipped, unclear)
    assert said[0] == set()
    assert all("Outcome" in one for one in said[1:])


def test_by_the_same_index_it_is_the_same_and_the_command_says_so(indexed, receipt):
    row = rescored(receipt, indexed.staff)
    assert row.public["difference"] == {}
    assert row.public["influence"] == receipt.public["influence"]
    assert row.sketch_id == receipt.sketch_id
    out = StringIO()
    call_command("verify", str(row.pk), stdout=out)
    assert "to the last unit" in out.getvalue()
    row.private["salt"] = "00" * 32
    row.save(update_fields=["private"])
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("verify", str(row.pk), stdout=out, format="json")
    wrong = {one["name"] for one in json.loads(out.getvalue())["checks"] if one["holds"] is False}
    assert wrong == {"private part"}


def address(name, pk):
    return reverse(f"attribution:{name}", args=[pk])


def test_a_party_asks_on_the_page_and_both_pages_link_to_each_other(client, indexed, receipt):
    client.force_login(indexed.bob)
    page = client.get(address("receipt", receipt.pk)).content.decode()
    assert "Score it again" in page
    answer = client.post(address("rescore", receipt.pk))
    row = Rescoring.objects.get()
    assert answer.url == row.get_absolute_url()
    assert "looks again by itself" in client.get(answer.url).content.decode()
    withdraw_the_strongest(indexed, receipt)
    rescoring.rescore(row.pk)
    sequence(at=NOON)

    client.logout()
    page = client.get(address("receipt", receipt.pk)).content.decode()
    assert row.get_absolute_url() in page
    assert "DIFFERS" in page
    page = client.get(row.get_absolute_url()).content.decode()
    assert receipt.get_absolute_url() in page
    assert indexed.alice.handle in page
    assert "Nobody is paid or charged" in page
    assert failed_checks(client.get(address("rescored_proof", row.pk)).json()) == set()
    found = client.get(reverse("search") + f"?q={row.pk}", follow=True)
    assert found.request["PATH_INFO"] == row.get_absolute_url()


def test_strangers_read_what_is_done_and_nothing_else(client, indexed, receipt):
    row = request_rescoring(receipt=receipt, acting_user=indexed.payer, at=NOON)
    names = ("rescored", "rescored_proof", "rescored_private")
    for user in (None, indexed.stranger):
        client.logout()
        if user:
            client.force_login(user)
        assert [client.get(address(name, row.pk)).status_code for name in names] == [404] * 3
        asked = client.post(address("rescore", receipt.pk)).status_code
        assert asked == (404 if user else 302)
        assert "Score it again" not in client.get(address("receipt", receipt.pk)).content.decode()
        assert client.get(reverse("api-rescoring", args=[row.pk])).status_code == 404
        asked = client.post(reverse("api-receipt-rescorings", args=[receipt.pk])).status_code
        assert asked == (404 if user else 403)
    assert client.get(address("rescore", receipt.pk)).status_code == 405
    rescoring.rescore(row.pk)
    sequence(at=NOON)
    assert [client.get(address(name, row.pk)).status_code for name in names] == [200, 200, 404]
    private = reverse("api-rescoring-private", args=[row.pk])
    assert client.get(private).status_code == 404
    client.force_login(indexed.alice)
    assert "payer" not in client.get(private).json()["private"]
    client.force_login(indexed.payer)
    assert client.get(private).json()["private"]["payer"]["prompt_salt"]


def test_the_api_asks_and_tells(client, indexed, receipt):
    client.force_login(indexed.payer)
    listing = reverse("api-receipt-rescorings", args=[receipt.pk])
    made = client.post(listing).json()
    assert (made["state"], made["asked_as"]) == ("QUEUED", "payer")
    rescoring.rescore(made["id"])
    sequence(at=NOON)
    assert [one["id"] for one in client.get(listing).json()] == [made["id"]]
    told = client.get(reverse("api-rescoring", args=[made["id"]])).json()
    assert told["public"]["rescores"]["receipt"] == str(receipt.pk)
    proof = client.get(reverse("api-rescoring-proof", args=[made["id"]])).json()
    assert failed_checks(proof) == set()
    base = indexed.receipt(base_only=True)
    refused = client.post(reverse("api-receipt-rescorings", args=[base.pk]))
    assert refused.status_code == 400
    assert "base model" in refused.content.decode()
