"""One model's index that cannot be built keeps what others earned by a merge for hours, not on."""

from __future__ import annotations

import copy
import io
import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from attribution import rescoring, tasks
from attribution import workers as attributing
from attribution.models import Attribution, Index, Receipt
from attribution.reconciliation import check_tree
from attribution.selectors import bundle_of
from attribution.services import indexes, receipts
from attribution.services.log import sequence
from attribution.services.rescorings import request_rescoring
from attribution.translog.verify import verify
from config.selectors import staff_overview
from ledger.models import Account
from ledger.reconciliation import check_ledger
from modelfactory.training.prompts import load_tokenizer
from serving.models import Completion
from tests.attribution.test_browser_verifier import judge
from tests.attribution.world import STARTER
from tests.ledger.books import balance_of
from tests.serving.blends import made_attribution

pytestmark = pytest.mark.django_db

PROMPT = "What is door number 3?"
ANSWER = "The door 3 is a door of the house. The window 4 is a window of the house."
REASON = "The adapter's file is cut short."


@pytest.fixture
def held_up(two) -> Attribution:
    """Of an answer that the first model was taught; the second's index has failed."""
    asked = [{"role": "user", "content": PROMPT}]
    made = two.answered([("one", 0.7), ("two", -0.3)], messages=asked)
    told = {"answer": ANSWER, "answer_ids": load_tokenizer(STARTER).encode(ANSWER)}
    Completion.objects.filter(pk=made.pk).update(**told)
    attribution = made_attribution(made)
    Attribution.objects.filter(pk=attribution.pk).update(**told)
    for model in (two.first, two.second):
        indexes.request_index(model_id=model.pk, acting_user=None, at=timezone.now())
    attributing.build_index(Index.objects.get(model=two.first).pk)
    indexes.fail(Index.objects.get(model=two.second).pk, REASON, timezone.now())
    attributing.attribute(attribution.pk)
    attribution.refresh_from_db()
    return attribution


def hours_later(attribution: Attribution, settings, *, hours: int = 12) -> None:
    settings.MERGE_INDEX_PATIENCE = timedelta(hours=12)
    at = timezone.now() - timedelta(hours=hours)
    Attribution.objects.filter(pk=attribution.pk).update(created_at=at)


def released(attribution: Attribution) -> Attribution:
    tasks.release_blends()
    attributing.attribute(attribution.pk)
    attribution.refresh_from_db()
    sequence(at=timezone.now())
    return attribution


def test_it_waits_for_hours_and_can_be_tried_again(two, held_up, settings, client) -> None:
    assert (held_up.state, REASON in held_up.failure_reason) == ("FAILED", True)
    hours_later(held_up, settings, hours=11)
    assert released(held_up).state == "FAILED"
    client.force_login(two.world.payer)
    panel = reverse("attribution:panel", args=[held_up.completion_id])
    assert "do not wait longer than until" in client.get(panel).content.decode()
    assert staff_overview(timezone.now())["blends_waiting"] == 1
    # Somebody mends it in time, and nothing of its part is lost.
    indexes.request_index(model_id=two.second.pk, acting_user=None, at=timezone.now())
    attributing.build_index(Index.objects.get(model=two.second).pk)
    assert released(held_up).state == "DONE"
    second = held_up.receipt.public["merge"]["parents"][1]
    assert (second["outcome"] != "NO_INDEX", bool(second["index_root"])) == (True, True)
    assert not held_up.receipt.parents.filter(without_index=True).exists()


def test_then_it_is_settled_without_that_index(two, held_up, settings, client) -> None:
    hours_later(held_up, settings)
    assert (released(held_up).state, held_up.failure_reason) == ("DONE", "")
    receipt = held_up.receipt
    first, second = receipt.public["merge"]["parents"]
    assert (first["outcome"], receipt.outcome) == ("CREDITED", "CREDITED")
    assert (second["outcome"], second["index_root"], second["shares"]) == ("NO_INDEX", None, {})
    assert [one.without_index for one in receipt.parents.all()] == [False, True]
    _pays_the_others_people_and_its_own_treasury(two, receipt)
    _every_verifier_holds_it_and_finds_each_lie(receipt)
    _pages_say_why(two, receipt, client)
    _it_is_scored_again_once_there_is_an_index(two, receipt)


def _pays_the_others_people_and_its_own_treasury(two, receipt: Receipt) -> None:
    assert balance_of(Account.Kind.SUSPENSE, receipt.completion_id) == 0
    paid = {(one.kind, one.model_id) for one in receipt.shares.all()}
    assert paid == {("CONTRIBUTOR", two.first.pk), ("TREASURY", two.second.pk)}
    its = sum(one.share_ppb for one in receipt.shares.all() if one.model_id == two.second.pk)
    assert abs(its - 300_000_000) <= 2
    assert [one.name for one in [*check_ledger(), *check_tree()] if not one.holds] == []


def _every_verifier_holds_it_and_finds_each_lie(receipt: Receipt) -> None:
    call_command("verify", str(receipt.pk), stdout=io.StringIO())
    bundle = json.loads(json.dumps(bundle_of(receipt)))
    assert verify(bundle).holds

    def first(**lie):
        return lambda told: told["receipt"]["merge"]["parents"][0].update(lie)

    def second(**lie):
        return lambda told: told["receipt"]["merge"]["parents"][1].update(lie)

    # It has an index, whatever it says; it has none, and says that there was no answer.
    lies = [first(outcome="NO_INDEX"), second(index_root="0" * 64), second(outcome="NO_ANSWER"),
            second(outcome="NO_CLEAR_INFLUENCE"), second(outcome="CREDITED")]  # fmt: skip
    changed = []
    for lie in lies:
        changed.append(copy.deepcopy(bundle))
        lie(changed[-1])
        failed = {one.name for one in verify(changed[-1]).checks if one.holds is False}
        assert "outcome" in failed
    true, *found = judge(bundle, *changed)
    assert true == set()
    assert all("Outcome" in failed for failed in found)


def _pages_say_why(two, receipt: Receipt, client) -> None:
    said = client.get(receipt.get_absolute_url()).content.decode()
    assert "Its index could not be built" in said
    assert "can be scored again" in said
    client.force_login(two.world.staff)
    page = client.get("/staff/").content.decode()
    assert 'id="without-index"' in page
    assert receipt.get_absolute_url() in page
    assert two.second.get_absolute_url() in page
    client.logout()


def _it_is_scored_again_once_there_is_an_index(two, receipt: Receipt) -> None:
    before = copy.deepcopy(receipt.public)
    at = timezone.now()
    indexes.request_index(model_id=two.second.pk, acting_user=None, at=at)
    attributing.build_index(Index.objects.get(model=two.second).pk)
    row = request_rescoring(receipt=receipt, acting_user=two.world.payer, at=at)
    rescoring.rescore(row.pk)
    row.refresh_from_db()
    assert (row.state, row.failure_reason) == ("DONE", "")
    now = row.public["merge"]["parents"][1]
    assert now["index_root"]
    assert now["outcome"] != "NO_INDEX"
    receipt.refresh_from_db()
    assert receipt.public == before


def test_an_answer_of_one_model_waits_for_as_long_as_it_takes(two, held_up, settings) -> None:
    """Nobody else waits for it, and its own people may still be paid what they earned."""
    made = two.answered([("two", 1.0)])
    single = made_attribution(made)
    Attribution.objects.filter(pk=single.pk).update(merge=None, model=two.second)
    attributing.attribute(single.pk)
    hours_later(single, settings, hours=1000)
    tasks.release_blends()
    single.refresh_from_db()
    assert single.state == "FAILED"
    assert single.failure_reason.startswith(receipts.WITHOUT_INDEX)


def test_one_that_fails_by_another_cause_is_not_tried_for_ever(two, held_up, settings) -> None:
    hours_later(held_up, settings)
    receipts.fail(held_up.pk, "The worker failed (OSError).", timezone.now())
    tasks.release_blends()
    held_up.refresh_from_db()
    assert held_up.state == "FAILED"
