"""An answer of several models is scored again, each by its own index, and no money moves."""

from __future__ import annotations

import copy
import io
import json
import shutil
from datetime import timedelta

import pytest
from django.conf import settings as configured
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from accounts import leases
from accounts.models import Blob
from attribution import rescoring
from attribution import workers as attributing
from attribution.models import Attribution, Index, Receipt, Rescoring
from attribution.reconciliation import check_tree
from attribution.selectors import bundle_of, private_of
from attribution.services import rescorings
from attribution.services.erasure import erase_private_part
from attribution.services.exact_audits import request_exact_audit
from attribution.services.log import sequence
from attribution.services.rescorings import request_rescoring
from attribution.tasks import record_withheld
from attribution.translog.__main__ import main as offline
from attribution.translog.verify import verify
from datanets.models import Record
from datanets.services.moderation import withdraw_record
from ledger.models import Entry, Posting
from modelfactory.models import Model
from modelfactory.training.prompts import load_tokenizer
from serving.models import Completion
from tests.attribution.test_browser_verifier import judge
from tests.attribution.world import STARTER, queued
from tests.serving.blends import Two, receipt_of

pytestmark = pytest.mark.django_db

PROMPT = "What is door number 3?"
ANSWER = "The door 3 is a door of the house. The window 4 is a window of the house."


@pytest.fixture
def receipt(two) -> Receipt:
    """Of an answer that the first model was taught, so that its influence is clear."""
    asked = [{"role": "user", "content": PROMPT}]
    made = two.answered([("one", 0.7), ("two", -0.3)], messages=asked)
    told = {"answer": ANSWER, "answer_ids": load_tokenizer(STARTER).encode(ANSWER)}
    Completion.objects.filter(pk=made.pk).update(**told)
    Attribution.objects.filter(completion_id=made.pk).update(**told)
    return receipt_of(made)


def done_by(row: Rescoring) -> Rescoring:
    rescoring.rescore(row.pk)
    sequence(at=timezone.now())
    row.refresh_from_db()
    return row


def withdraw(record, *, rebuild: bool = True) -> None:
    withdraw_record(record=record, acting_user=record.contributor, at=timezone.now())
    record_withheld({"record_id": str(record.pk)})
    for index in Index.objects.filter(state="QUEUED") if rebuild else ():
        attributing.build_index(index.pk)


def address(name: str, pk) -> str:
    return reverse(f"attribution:{name}", args=[pk])


def test_each_model_is_read_by_its_own_index_and_the_difference_told(
    two, receipt, client, tmp_path, settings, capsys
) -> None:
    before, moved = copy.deepcopy(receipt.public), [Entry.objects.count(), Posting.objects.count()]
    row = _waits_for_every_index_and_says_what_failed(two, receipt)
    assert (row.state, row.failure_reason, row.asked_as) == ("DONE", "", "payer")
    body = row.public
    assert body["schema"] == "openledger-rescoring-merge/1"
    assert not {"index_root", "shares", "influence", "difference", "credits"} & {*body}
    assert body["rescores"] == {"receipt": str(receipt.pk), "sha256": receipt.body_sha256}
    first, second = body["merge"]["parents"]
    then = before["merge"]["parents"]
    roots = [Index.objects.get(model=model).root for model in (two.first, two.second)]
    assert row.index_roots == [first["index_root"], second["index_root"]] == roots
    assert (row.index_root, first["index_root"] != then[0]["index_root"]) == ("", True)
    # Only what the first model learnt from was withdrawn.
    assert first["difference"]
    assert sum(first["difference"].values()) == 0
    assert second == then[1] | {"difference": {}}
    assert [Entry.objects.count(), Posting.objects.count()] == moved
    receipt.refresh_from_db()
    assert receipt.public == before
    _every_verifier_holds_it_and_finds_each_lie(two, row, tmp_path, settings, capsys)
    _pages_tell_it_by_model_and_contributor(two, row, client)
    _a_model_without_records_counts_as_such(two, row)
    assert client.get(Rescoring.objects.first().get_absolute_url()).status_code == 200
    _erasing_the_first_erases_all(two, row)


def _waits_for_every_index_and_says_what_failed(two: Two, receipt: Receipt) -> Rescoring:
    at, mine = timezone.now(), two.world.payer
    withdraw(receipt.record_influences.filter(record__in=two.world.records)[0].record,
             rebuild=False)  # fmt: skip
    row = request_rescoring(receipt=receipt, acting_user=mine, at=at)
    assert request_rescoring(receipt=receipt, acting_user=two.world.alice, at=at) == row
    assert queued("rescore") == [[str(row.pk)]]
    assert done_by(row).state == "QUEUED"
    index = Index.objects.get(state="QUEUED")
    Index.objects.filter(pk=index.pk).update(state="FAILED")
    assert done_by(row).state == "FAILED"
    assert "index of model 1 of this answer" in row.failure_reason
    assert "reattribute" in row.failure_reason
    Index.objects.filter(pk=index.pk).update(state="QUEUED")
    attributing.build_index(index.pk)
    assert request_rescoring(receipt=receipt, acting_user=mine, at=at) == row
    assert rescorings.claim(rescoring_id=row.pk, owner="dead", at=at)
    leases.sweep(at=at + configured.WORK_LEASE + timedelta(seconds=1))
    done_by(row)
    assert request_rescoring(receipt=receipt, acting_user=two.world.staff, at=at) == row
    assert done_by(row).attempts == 2
    return row


def _every_verifier_holds_it_and_finds_each_lie(
    two: Two, row: Rescoring, folder, settings, capsys
) -> None:
    out = io.StringIO()
    call_command("verify", str(row.pk), stdout=out)
    assert out.getvalue().count("to the last unit") == 2
    assert all(finding.holds for finding in check_tree())
    bundle = json.loads(json.dumps(bundle_of(row)))
    _follows_from_both_indexes(row, bundle, two.world.payer, folder, settings.DATA_DIR, capsys)
    assert verify(bundle).holds
    one = bundle["receipt"]["merge"]["parents"][0]
    group = next(iter(one["difference"]))

    def parent(lie):
        return lambda told: lie(told["receipt"]["merge"]["parents"][0])

    lies = [
        ("difference", parent(lambda one: one["difference"].update({group: 5}))),
        ("shares", parent(lambda one: one["shares"].update({group: 1}))),
        ("merge", parent(lambda one: one.update(share_ppb=one["share_ppb"] - 1))),
        ("first receipt", parent(lambda one: one.update(weight_ppm=one["weight_ppm"] + 1))),
        ("first receipt", lambda told: told["receipt"]["merge"].update(seed=99)),
        ("first receipt", lambda told: told["named"]["receipt"]["merge"]["parents"].reverse()),
        ("difference", lambda told: told["receipt"].update(schema="openledger-rescoring/1")),
        ("difference", lambda told: told["receipt"].update(shares={}, difference={})),
        ("difference", lambda told: told["receipt"].update(credits=[])),
        ("difference", lambda told: told["receipt"]["merge"]["parents"].pop()),
        ("merge", lambda told: told["receipt"].update(outcome="NO_CLEAR_INFLUENCE")),
    ]
    changed = []
    for name, lie in lies:
        wrong = copy.deepcopy(bundle)
        lie(wrong)
        assert name in {check.name for check in verify(wrong).checks if check.holds is False}
        changed.append(wrong)
    true, *found = judge(bundle, *changed)
    assert true == set()
    for (name, _), failed in zip(lies, found, strict=True):
        assert name.capitalize() in failed


def _follows_from_both_indexes(row: Rescoring, bundle, payer, folder, data, capsys) -> None:
    mine = folder / "again"
    mine.mkdir()
    (mine / "receipt.json").write_text(json.dumps(bundle))
    (mine / "private.json").write_text(json.dumps(private_of(row, payer)))
    for root in row.index_roots:
        for file in (data / "cache" / "indexes" / root).iterdir():
            shutil.copy(file, mine / f"{root[:12]}-{file.name}")
    asked = ["verify", str(mine / "receipt.json"), "--private", str(mine / "private.json")]
    capsys.readouterr()
    assert offline([*asked, "--index", str(mine), "--format", "json"]) == 0
    checks = {one["name"]: one["holds"] for one in json.loads(capsys.readouterr().out)["checks"]}
    assert all(checks[f"{name} {place}"] for name in ("index", "influences", "records")
               for place in (1, 2))  # fmt: skip


def _pages_tell_it_by_model_and_contributor(two: Two, row: Rescoring, client) -> None:
    said = client.get(row.get_absolute_url()).content.decode()
    assert all(model.get_absolute_url() in said for model in (two.first, two.second))
    assert two.world.alice.handle in said
    assert "70 % of what models earn" in said
    assert "By its index every share is the same." in said
    first = client.get(address("receipt", row.receipt_id)).content.decode()
    assert row.get_absolute_url() in first
    assert "DIFFERS" in first
    assert "Score it again" not in first
    told = client.get(reverse("api-rescoring", args=[row.pk])).json()
    assert (told["index_root"], told["index_roots"]) == ("", row.index_roots)
    assert verify(client.get(address("rescored_proof", row.pk)).json()).holds
    _strangers_are_refused(two, row, client)
    Model.objects.filter(pk=two.second.pk).update(state="DRAFT")
    assert two.second.slug not in client.get(row.get_absolute_url()).content.decode()
    Model.objects.filter(pk=two.second.pk).update(state="PUBLISHED")


def _strangers_are_refused(two: Two, row: Rescoring, client) -> None:
    at, first = timezone.now(), row.receipt
    client.force_login(two.world.stranger)
    assert client.get(address("rescored_private", row.pk)).status_code == 404
    assert client.post(address("rescore", first.pk)).status_code == 404
    assert client.post(reverse("api-receipt-rescorings", args=[first.pk])).status_code == 404
    # Who owns a model that answered is no party of the answer.
    for ask in (request_rescoring, request_exact_audit):
        with pytest.raises(PermissionDenied):
            ask(receipt=first, acting_user=two.other, at=at)
    client.force_login(two.world.bob)
    page = client.get(address("receipt", first.pk)).content.decode()
    assert "Score it again" in page
    assert "Audit it exactly" in page
    private = client.get(address("rescored_private", row.pk)).json()
    assert len(private["private"]["parents"]) == 2
    assert "payer" not in private["private"]
    # The first model's records were withdrawn, and the second's run can be replayed.
    assert request_exact_audit(receipt=first, acting_user=two.world.bob, at=at).state == "QUEUED"
    client.logout()


def _a_model_without_records_counts_as_such(two: Two, row: Rescoring) -> None:
    """All that the first learnt from is withdrawn: it credits nobody, the second is as before."""
    left = Record.objects.filter(pk__in=[one.pk for one in two.world.records]).filter(
        state="ACCEPTED"
    )
    for record in left:
        withdraw_record(record=record, acting_user=record.contributor, at=timezone.now())
    record_withheld({"record_id": str(record.pk)})
    attributing.build_index(Index.objects.get(model=two.first).pk)
    at = timezone.now()
    later = request_rescoring(receipt=row.receipt, acting_user=two.world.bob, at=at)
    assert later.pk != row.pk
    assert done_by(later).failure_reason == ""
    assert later.index_roots == ["", row.index_roots[1]]
    first, second = later.public["merge"]["parents"]
    assert second == row.public["merge"]["parents"][1]
    assert (first["outcome"], first["shares"]) == ("NO_POSITIVE_INFLUENCE", {})
    assert sum(first["difference"].values()) == -(10**9)
    call_command("verify", str(later.pk), stdout=io.StringIO())
    assert verify(bundle_of(later)).holds
    assert request_rescoring(receipt=row.receipt, acting_user=two.world.bob, at=at) == later


def _erasing_the_first_erases_all(two: Two, row: Rescoring) -> None:
    sketches = {row.sketch_id, row.receipt.sketch_id}
    erase_private_part(receipt=row.receipt, acting_user=two.world.payer, at=timezone.now())
    for one in Rescoring.objects.all():
        assert (one.private, one.sketch_id) == ({}, None)
        call_command("verify", str(one.pk), stdout=io.StringIO())
    assert None not in sketches
    assert not Blob.objects.filter(pk__in=sketches).exists()
