"""Passages of an answer that stand verbatim in records: found, kept apart, shown to its parties."""

import re

import pytest
from django.core.management import call_command
from django.urls import reverse

from accounts.models import OutboxMessage
from attribution import bodies, passages, workers
from attribution.models import Passage, PassageRecord, Receipt, SpanIndex
from attribution.services import span_indexes
from attribution.spans import layout
from attribution.spans.search import Span
from attribution.tasks import record_withheld
from attribution.translog import canonical
from attribution.verification import verify_receipt
from datanets.models import Datanet, Record
from datanets.services.moderation import withdraw_record
from modelfactory.training.prompts import load_tokenizer
from tests.attribution.world import NOON, queued
from tests.modelfactory.world import STARTER

pytestmark = pytest.mark.django_db
ANSWER = "The door 3 is a door of the house. You ask well."
PASSAGE = "The door 3 is a door of the house."


@pytest.fixture(autouse=True)
def forget_opened():
    passages.forget()


@pytest.fixture
def receipt(indexed):
    return indexed.receipt(answer=ANSWER)


def shown(client, receipt, user=None):
    if user:
        client.force_login(user)
    address = reverse("attribution:panel", args=[receipt.completion_id])
    text = client.get(address).content.decode()
    on_page = client.get(reverse("attribution:receipt", args=[receipt.pk])).content.decode()
    lists = [
        re.findall(r"<blockquote[^>]*>(.*?)</blockquote>", one, re.S) for one in (text, on_page)
    ]
    assert lists[0] == lists[1]
    return lists[0], text


def source(receipt):
    return PassageRecord.objects.get(passage__receipt=receipt).record


def test_the_longest_passage_is_kept_and_its_places_are_hashed_not_its_words(indexed, receipt):
    passage = receipt.passages.get()
    assert passage.text == PASSAGE
    assert ANSWER[passage.start : passage.end] == PASSAGE
    held = passage.records.get()
    assert held.contributor == indexed.alice
    assert PASSAGE in held.record.payload["messages"][1]["content"]
    assert passage.places == 1
    row = SpanIndex.objects.get()
    assert receipt.public["spans"] == {
        "method": "verbatim-spans",
        "version": 1,
        "parameters": {"min_tokens": 8, "max_spans": 10, "max_records": 5},
        "indexes": [{"version": str(row.version_id), "root": row.root}],
        "missing": [],
    }
    stated = receipt.private["passages"]
    assert [one["records"][0]["record"] for one in stated] == [str(source(receipt).pk)]
    assert "door" not in str(receipt.private)
    private = bodies.without_salts(receipt.private)
    assert canonical.sha256(private) == receipt.public["private_sha256"]
    assert verify_receipt(receipt).holds


def test_its_parties_see_the_passage_with_record_and_contributor_and_nobody_else(
    client, indexed, receipt
):
    for user in (None, indexed.stranger):
        texts, panel = shown(client, receipt, user)
        assert texts == []
        assert "verbatim" not in panel
    for who in (indexed.payer, indexed.alice, indexed.staff):
        texts, panel = shown(client, receipt, who)
        assert texts == [PASSAGE]
        assert f"/records/{source(receipt).pk}" in panel
        assert indexed.alice.handle in panel
        # Only who may read the answer has its places marked.
        assert ("data-passages" in panel) == (who == indexed.payer)


def test_a_party_that_may_read_neither_answer_nor_record_gets_no_words(client, indexed, receipt):
    Datanet.objects.update(state="DRAFT")
    bob = receipt.shares.filter(contributor=indexed.bob).exists()
    reader = indexed.bob if bob else None
    if reader is None:
        receipt.shares.filter(contributor=indexed.alice).update(contributor=indexed.bob)
        reader = indexed.bob
    texts, panel = shown(client, receipt, reader)
    assert texts == []
    assert "not open to you" in panel
    assert PASSAGE not in panel
    assert shown(client, receipt, indexed.payer)[0] == [PASSAGE]


def test_a_withdrawn_record_vanishes_at_once_and_its_words_with_the_next_task(
    client, indexed, receipt
):
    record = source(receipt)
    withdraw_record(record=record, acting_user=indexed.alice, at=NOON)
    for who in (indexed.payer, indexed.staff, indexed.alice):
        texts, panel = shown(client, receipt, who)
        assert texts == []
        assert "No passage of 8 tokens" in panel
    message = OutboxMessage.objects.get(task="attribution.tasks.record_withheld")
    record_withheld(*message.args)
    assert not Passage.objects.exists()
    assert verify_receipt(receipt).holds


def test_a_withdrawn_record_is_in_no_later_answer(indexed, receipt, monkeypatch):
    withdraw_record(record=source(receipt), acting_user=indexed.alice, at=NOON)
    monkeypatch.setattr(passages, "WITHHELD_FOR", -1.0)
    passages._withheld.clear()
    assert not indexed.receipt(answer=ANSWER).passages.filter(text=PASSAGE).exists()
    assert SpanIndex.objects.count() == 1


def test_a_passage_keeps_the_records_that_are_left(client, indexed):
    receipt = indexed.receipt(answer="It is a door of the house. It is a window of the house.")
    passage = receipt.passages.first()
    held = list(passage.records.all())
    assert len(held) == 5
    assert passage.places == 12
    withdraw_record(record=held[0].record, acting_user=indexed.alice, at=NOON)
    span_indexes.forget_record(record_id=held[0].record_id, at=NOON)
    assert passage.records.count() == 4
    assert passage.text in shown(client, receipt, indexed.payer)[0]


def test_without_passages_it_says_why(client, indexed, monkeypatch):
    for answer in ("Nothing that anybody wrote in there, ever.", ""):
        text = shown(client, indexed.receipt(answer=answer), indexed.payer)[1]
        assert "No passage of 8 tokens" in text
    monkeypatch.setattr(passages, "find", lambda attribution: None)
    old = indexed.receipt(answer=ANSWER)
    assert old.public["spans"] is None
    assert "from before passages were looked for" in shown(client, old, indexed.payer)[1]
    assert verify_receipt(old).holds


def test_a_base_model_has_no_passages(client, world):
    receipt = world.receipt(base_only=True)
    assert receipt.public["spans"] is None
    assert "verbatim" not in shown(client, receipt, world.payer)[1]


def test_the_answer_is_marked_by_characters_in_whole_words():
    tokenizer = load_tokenizer(STARTER)
    answer = "Zoë’s door — the doorkeeper 門 stays"
    ids = tokenizer.encode(answer)
    for start in range(len(ids)):
        for length in range(1, len(ids) - start + 1):
            span = Span(start, length, 1, 1, ())
            begin, end = passages.characters(tokenizer, ids, answer, span)
            raw = tokenizer.decode(ids[start : start + length]).strip("\ufffd")
            assert answer[begin:end] in raw
            assert answer[begin:end] == answer[begin:end].strip()
            assert not (begin and answer[begin - 1 : begin + 1].isalpha() and begin < end)
    whole = passages.characters(tokenizer, ids, answer, Span(0, len(ids), 1, 1, ()))
    assert whole == (0, len(answer))
    # A stop sequence cut the stored answer.
    assert passages.characters(tokenizer, ids, "Zoë’s", Span(0, len(ids), 1, 1, ())) == (0, 5)
    assert passages.characters(tokenizer, ids, "other", Span(0, 3, 1, 1, ())) == (0, 0)


def test_the_index_of_a_version_is_built_once_beside_the_influence_index(indexed):
    row = SpanIndex.objects.get()
    assert (row.state, row.version_id) == ("READY", indexed.version.pk)
    assert row.manifest["header"]["record_count"] == 24
    assert not (span_folder := passages.span_files.build_folder(row)).exists(), span_folder
    passages.build_span_index(row.pk)
    again = SpanIndex.objects.get()
    assert (again.root, again.ready_at) == (row.root, row.ready_at)


def test_the_page_of_the_index_names_the_span_indexes(client, indexed):
    from attribution.models import Index

    row = SpanIndex.objects.get()
    address = reverse("attribution:index", args=[Index.objects.get().root])
    assert row.root[:16] in client.get(address).content.decode()
    SpanIndex.objects.update(state="FAILED", root="", failure_reason="the disk is full")
    # A reason may name files of the machine.
    assert "the disk is full" not in client.get(address).content.decode()
    client.force_login(indexed.staff)
    assert "the disk is full" in client.get(address).content.decode()
    client.logout()
    Datanet.objects.update(state="DRAFT")
    assert "No version that you may see" in client.get(address).content.decode()


def test_an_attribution_waits_for_a_span_index_that_is_to_come(indexed):
    SpanIndex.objects.all().delete()
    attribution = indexed.ask(answer=ANSWER)
    workers.attribute(attribution.pk)
    attribution.refresh_from_db()
    assert attribution.state == "QUEUED"
    row = SpanIndex.objects.get()
    assert [str(row.pk)] in queued("build_span_index")
    passages.build_span_index(row.pk)
    workers.attribute(attribution.pk)
    assert Receipt.objects.get(attribution=attribution).passages.count() == 1


def test_a_span_index_that_cannot_be_built_or_read_holds_up_no_payment(client, indexed):
    row = SpanIndex.objects.get()
    cached = passages.span_files._cache() / row.root / layout.TOKENS
    indexed.receipt(answer=ANSWER)
    passages.forget()
    cached.write_bytes(cached.read_bytes()[:-1])
    receipt = indexed.receipt(answer=ANSWER)
    assert receipt.amount > 0
    assert receipt.public["spans"]["missing"] == [str(indexed.version.pk)]
    assert "could not be built or read" in shown(client, receipt, indexed.payer)[1]
    SpanIndex.objects.update(state="FAILED", failure_reason="full disk")
    assert indexed.receipt(answer=ANSWER).public["spans"]["missing"]
    call_command("reattribute")
    assert SpanIndex.objects.get().state == "QUEUED"


def test_a_dead_builder_is_taken_over_and_cannot_finish(indexed):
    SpanIndex.objects.all().delete()
    row = span_indexes.request_span_index(
        version_id=indexed.version.pk,
        base_model_id=indexed.base.pk,
        acting_user=None,
        at=NOON,
    )
    assert span_indexes.claim(index_id=row.pk, owner="dead", at=NOON)
    span_indexes.requeue(row.pk, NOON)
    passages.build_span_index(row.pk)
    late = span_indexes.finish(
        index_id=row.pk, owner="dead", root="0" * 64, manifest={}, seconds=1, at=NOON
    )
    row.refresh_from_db()
    assert (late, row.state) == (False, "READY")
    span_indexes.fail(row.pk, "too late", NOON, "dead")
    row.refresh_from_db()
    assert row.state == "READY"


def test_verify_finds_a_passage_that_the_receipt_does_not_name(indexed, receipt):
    other = Record.objects.exclude(pk=source(receipt).pk).first()
    held = PassageRecord.objects.get()
    PassageRecord.objects.create(passage=held.passage, record=other, contributor=other.contributor)
    assert not verify_receipt(receipt).holds
