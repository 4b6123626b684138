"""From a paid answer to a receipt: who is credited, what is paid, and never twice."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction

from accounts import leases
from accounts.models import OutboxMessage
from attribution import building, workers
from attribution.models import Attribution, Index, Receipt
from attribution.services import indexes, receipts, writing
from attribution.services.receipts import request_attribution
from ledger.models import Account, Entry
from tests.attribution.world import NOON, SPLIT, queued
from tests.ledger.books import balance_of

pytestmark = pytest.mark.django_db


def test_a_receipt_pays_the_contributors_of_the_records(indexed):
    receipt = indexed.receipt()
    assert receipt.outcome == "CREDITED"
    assert sum(share.share_ppb for share in receipt.shares.all()) == 10**9
    earned = {share.contributor_id: share.amount for share in receipt.shares.all()}
    assert sum(earned.values()) == receipt.amount == SPLIT.amounts(receipt.fee)["contributors"]
    for person in (indexed.alice, indexed.bob):
        assert balance_of(Account.Kind.EARNINGS, person.pk) == earned.get(person.pk, 0)
    assert balance_of(Account.Kind.SUSPENSE, receipt.completion_id) == 0


def test_the_contributor_of_the_doors_earns_most_for_a_door(indexed):
    receipt = indexed.receipt()
    assert receipt.shares.first().contributor == indexed.alice
    top = receipt.record_influences.first()
    assert top.contributor == indexed.alice
    assert "door" in top.record.excerpt


def test_a_record_that_was_held_out_is_not_in_the_index(indexed):
    groups = Index.objects.get().manifest["groups"]
    assert sorted(group["count"] for group in groups) == [11, 12]


def test_asking_twice_makes_one_attribution(world):
    first = world.ask()
    again = request_attribution(
        completion_id=first.completion_id,
        model_id=world.model.pk,
        prompt_ids=[1],
        answer_ids=[2],
        prompt="other",
        answer="other",
        fee=1,
        split=SPLIT,
        input_price=1,
        output_price=1,
        at=NOON,
    )
    assert again.pk == first.pk
    assert again.prompt == first.prompt
    assert queued("attribute") == [[str(first.pk)]]


def test_a_second_run_makes_no_second_receipt_and_pays_nothing(indexed):
    receipt = indexed.receipt()
    entries = Entry.objects.count()
    workers.attribute(receipt.attribution_id)
    assert Receipt.objects.count() == 1
    assert Entry.objects.count() == entries


def test_a_worker_that_lost_its_lease_writes_nothing(indexed):
    attribution = indexed.ask()
    taken = receipts.claim(attribution_id=attribution.pk, owner="slow", at=NOON)
    evidence = workers.find_evidence(taken)
    receipts.requeue(attribution.pk, NOON)
    workers.attribute(attribution.pk)
    written = writing.write_receipt(
        attribution_id=attribution.pk, owner="slow", evidence=evidence, at=NOON
    )
    assert written is None
    assert Receipt.objects.count() == 1


def test_the_texts_are_let_go_once_the_receipt_stands(indexed):
    receipt = indexed.receipt()
    attribution = receipt.attribution
    assert attribution.state == "DONE"
    assert (attribution.prompt, attribution.answer) == ("", "")
    assert attribution.prompt_ids == attribution.answer_ids == []
    assert "door" not in str(receipt.public)


def test_a_base_model_has_no_contributors_and_the_receipt_says_so(world):
    receipt = world.receipt(base_only=True)
    assert receipt.outcome == "NO_CONTRIBUTORS"
    assert receipt.public["credits"] == []
    assert receipt.amount == 0
    assert not receipt.shares.exists()


def test_an_answer_without_tokens_pays_the_treasury(indexed):
    receipt = indexed.receipt(answer="")
    assert receipt.outcome == "NO_ANSWER"
    assert receipt.shares.get().kind == "TREASURY"
    paid = SPLIT.amounts(receipt.fee)["contributors"]
    assert balance_of(Account.Kind.TREASURY, indexed.datanet.pk) == paid


def test_no_positive_influence_pays_the_treasury(indexed, monkeypatch):
    real = workers.find_evidence

    def nobody_helped(attribution):
        from dataclasses import replace

        found = real(attribution)
        return replace(found, influences=dict.fromkeys(found.influences, -5), records=[])

    monkeypatch.setattr(workers, "find_evidence", nobody_helped)
    receipt = indexed.receipt()
    assert receipt.outcome == "NO_POSITIVE_INFLUENCE"
    assert receipt.public["shares"] == {}
    assert receipt.shares.get().datanet == indexed.datanet
    assert receipt.shares.get().share_ppb == 10**9


def test_an_attribution_waits_for_the_index_and_is_woken_by_it(world):
    attribution = world.ask()
    workers.attribute(attribution.pk)
    attribution.refresh_from_db()
    assert attribution.state == "QUEUED"
    assert [str(attribution.pk)] in queued("attribute")
    waiting = OutboxMessage.objects.get(key=f"attribute:{attribution.pk}:waiting")
    assert waiting.available_at > waiting.created_at + timedelta(seconds=5)
    assert queued("build_index") == [[str(Index.objects.get().pk)]]
    before = len(queued("attribute"))
    world.build_index()
    assert len(queued("attribute")) == before + 1
    workers.attribute(attribution.pk)
    attribution.refresh_from_db()
    assert attribution.state == "DONE"


def test_a_failed_index_fails_the_attribution_with_its_reason(world):
    world.base.folder = "/nowhere"
    world.base.save()
    index = world.build_index()
    assert index.state == "FAILED"
    attribution = world.ask()
    workers.attribute(attribution.pk)
    attribution.refresh_from_db()
    assert attribution.state == "FAILED"
    assert index.failure_reason in attribution.failure_reason
    assert balance_of(Account.Kind.SUSPENSE, attribution.completion_id) > 0


def test_what_failed_goes_on_after_a_second_try(world, tiny_folders):
    from django.core.management import call_command

    world.base.folder = "/nowhere"
    world.base.save()
    world.build_index()
    attribution = world.ask()
    workers.attribute(attribution.pk)
    world.base.folder = str(tiny_folders[0])
    world.base.save()
    call_command("reattribute")
    workers.build_index(Index.objects.get().pk)
    workers.attribute(attribution.pk)
    attribution.refresh_from_db()
    assert attribution.state == "DONE"


def test_a_query_that_cannot_be_attributed_fails_with_its_reason(indexed):
    attribution = indexed.ask("door " * 200)
    workers.attribute(attribution.pk)
    attribution.refresh_from_db()
    assert attribution.state == "FAILED"
    assert "more than the model's context 128" in attribution.failure_reason


def test_a_dead_worker_is_noticed_and_given_up_after_three_attempts(world):
    attribution = world.ask()
    owner = "dead"
    for _ in range(3):
        assert receipts.claim(attribution_id=attribution.pk, owner=owner, at=NOON)
        Attribution.objects.filter(pk=attribution.pk).update(lease_expires_at=NOON)
        leases.sweep(at=NOON.replace(year=2027))
    attribution.refresh_from_db()
    assert attribution.state == "FAILED"
    assert "stopped answering 3 times" in attribution.failure_reason


def test_the_public_part_cannot_be_changed(indexed):
    receipt = indexed.receipt()
    with pytest.raises(DatabaseError), transaction.atomic():
        Receipt.objects.filter(pk=receipt.pk).update(fee=1)
    with pytest.raises(DatabaseError), transaction.atomic():
        Receipt.objects.filter(pk=receipt.pk).delete()


def test_no_guessed_prompt_matches_without_the_salt(indexed):
    import hashlib

    receipt = indexed.receipt()
    guess = "What is door number 3?"
    assert hashlib.sha256(guess.encode()).hexdigest() != receipt.public["prompt_sha256"]
    salt = bytes.fromhex(receipt.private["payer"]["prompt_salt"])
    assert hashlib.sha256(salt + guess.encode()).hexdigest() == receipt.public["prompt_sha256"]


def test_the_model_event_asks_for_the_index_once(world):
    from attribution.tasks import model_created

    model_created({"model_id": str(world.model.pk)})
    model_created({"model_id": str(world.model.pk)})
    assert len(queued("build_index")) == 1


def test_a_message_that_the_broker_lost_is_sent_again(world):
    attribution = world.ask()
    OutboxMessage.objects.update(sent_at=NOON)
    leases.sweep(at=NOON + timedelta(days=1))
    attribution.refresh_from_db()
    assert attribution.state == "QUEUED"
    assert attribution.attempts == 0
    assert queued("attribute") == [[str(attribution.pk)]]


def test_a_worker_that_lost_its_lease_cannot_fail_the_work(world):
    attribution = world.ask()
    receipts.claim(attribution_id=attribution.pk, owner="new", at=NOON)
    receipts.fail(attribution.pk, "too late", NOON, "old")
    attribution.refresh_from_db()
    assert attribution.state == "RUNNING"
    index = indexes.request_index(model_id=world.model.pk, acting_user=None, at=NOON)
    indexes.claim(index_id=index.pk, owner="new", at=NOON)
    indexes.fail(index.pk, "too late", NOON, "old")
    index.refresh_from_db()
    assert index.state == "BUILDING"


def test_a_second_index_waits_its_turn_in_the_worker(world):
    index = indexes.request_index(model_id=world.model.pk, acting_user=None, at=NOON)
    with building.building:
        workers.build_index(index.pk)
    index.refresh_from_db()
    assert index.state == "QUEUED"
    assert OutboxMessage.objects.filter(key=f"index:{index.pk}:waiting").exists()
