"""What failed is told where people look, and put back to work by whom it concerns."""

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts.models import AuditEvent
from attribution import workers
from attribution.models import Attribution, Index, SpanIndex
from attribution.services import receipts
from attribution.services.trying_again import Tried, try_all_again
from tests.attribution.world import NOON

pytestmark = pytest.mark.django_db
REASON = "disk is full"


@pytest.fixture
def failed(indexed) -> Attribution:
    """By a cause that is mended since."""
    return failed_answer(indexed)


def failed_answer(indexed) -> Attribution:
    row = indexed.ask()
    receipts.fail(row.pk, REASON, NOON)
    row.refresh_from_db()
    return row


def address(name, *args):
    return reverse(f"attribution:{name}", args=args)


def read(client, name, *args):
    return client.get(address(name, *args)).content.decode()


def test_who_paid_has_the_answer_tried_again_under_it(client, indexed, failed):
    client.force_login(indexed.payer)
    panel = ("panel", failed.completion_id)
    text = read(client, *panel)
    assert REASON in text
    assert "Try again" in text
    again = address("try_answer_again", failed.completion_id)
    answer = client.post(again, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.url) == (302, address(*panel))
    assert 'data-state="WAITING"' in read(client, *panel)
    workers.attribute(failed.pk)
    assert 'data-state="DONE"' in read(client, *panel)
    told = AuditEvent.objects.get(verb="attribution.tried_again")
    assert (told.actor, told.target_id, told.data["reason"]) == (indexed.payer, failed.pk, REASON)

    client.post(again)  # a second click, when it is done
    failed.refresh_from_db()
    assert failed.state == "DONE"
    assert AuditEvent.objects.filter(verb="attribution.tried_again").count() == 1


@pytest.mark.parametrize("who", [None, "stranger", "alice", "builder"])
def test_others_read_that_it_failed_and_cannot_have_it_tried(client, indexed, failed, who):
    if who:
        client.force_login(getattr(indexed, who))
    text = read(client, "panel", failed.completion_id)
    assert REASON in text
    assert "Try again" not in text
    answer = client.post(address("try_answer_again", failed.completion_id))
    assert answer.status_code == (403 if who else 302)
    assert client.post(address("try_all_again")).status_code == (403 if who else 302)
    assert client.get(address("failed")).status_code == (403 if who else 302)
    failed.refresh_from_db()
    assert failed.state == "FAILED"


def test_nothing_is_tried_by_reading(client, indexed, failed):
    client.force_login(indexed.staff)
    for name, args in (("try_answer_again", [failed.completion_id]), ("try_all_again", [])):
        assert client.get(address(name, *args)).status_code == 405
    nowhere = address("try_answer_again", failed.pk)
    assert client.post(nowhere).status_code == 404


def test_staff_see_all_that_failed_and_try_one_or_all(client, indexed, failed):
    client.force_login(indexed.staff)
    Index.objects.update(state="FAILED", failure_reason="a gradient is not finite")
    SpanIndex.objects.update(state="FAILED", failure_reason="a token is missing")
    other = failed_answer(indexed)
    staff = client.get(reverse("staff")).content.decode()
    assert address("failed") in staff
    text = read(client, "failed")
    for told in (
        REASON,
        "a gradient is not finite",
        "a token is missing",
        str(other.completion_id),
    ):
        assert told in text

    assert client.post(address("try_answer_again", other.completion_id)).url == address("failed")
    other.refresh_from_db()
    assert other.state == "QUEUED"
    text = client.post(address("try_all_again"), follow=True).content.decode()
    assert "Indexes that go on: 1; answers: 1." in text
    assert "None has failed." in text
    assert "Every answer that was paid for is attributed" in text
    assert not Index.objects.exclude(state="QUEUED").exists()
    assert not SpanIndex.objects.exclude(state="QUEUED").exists()
    assert not Attribution.objects.exclude(state="QUEUED").exists()


def test_the_page_of_an_answer_without_index_leads_to_the_index(client, indexed):
    Index.objects.update(state="FAILED", failure_reason=REASON)
    asked = indexed.ask()
    workers.attribute(asked.pk)
    client.force_login(indexed.payer)
    text = read(client, "panel", asked.completion_id)
    assert address("index_of", indexed.model.pk) in text
    assert "Try again" not in text  # it would fail again at once


def test_the_owner_of_the_model_has_its_failed_index_built_again(client, indexed):
    Index.objects.update(state="FAILED", failure_reason=REASON, attempts=3)
    asked = indexed.ask()
    workers.attribute(asked.pk)
    of_model, rebuild = (address(name, indexed.model.pk) for name in ("index_of", "index_rebuild"))
    client.force_login(indexed.payer)
    text = client.get(of_model).content.decode()
    assert REASON not in text
    assert "Try again" not in text
    assert client.post(rebuild).status_code == 403

    client.force_login(indexed.model.owner)
    text = client.get(of_model).content.decode()
    assert REASON in text
    assert "Try again" in text
    for _ in range(2):
        assert client.post(rebuild).url == of_model
    index = Index.objects.get()
    assert (index.state, index.attempts, index.failure_reason) == ("QUEUED", 0, "")
    told = AuditEvent.objects.filter(verb="attribution.index_requested", actor=indexed.model.owner)
    assert told.count() == 1
    workers.build_index(index.pk)
    workers.attribute(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "DONE"


def test_one_models_failures_are_tried_with_its_blends_and_no_others(indexed, failed):
    twin = indexed.another_model()
    other, blend = failed_answer(indexed), failed_answer(indexed)
    Attribution.objects.filter(pk=other.pk).update(model=twin)
    parents = [{"model": str(one.pk)} for one in (indexed.model, twin)]
    Attribution.objects.filter(pk=blend.pk).update(model=None, merge={"parents": parents})
    assert try_all_again(acting_user=None, at=NOON, model=indexed.model) == Tried(0, 2)
    assert list(Attribution.objects.filter(state="FAILED")) == [other]
    call_command("reattribute", model=twin.slug)
    assert not Attribution.objects.filter(state="FAILED").exists()
    with pytest.raises(CommandError, match="no model nobody"):
        call_command("reattribute", model="nobody")


def test_more_than_a_batch_are_put_back_each_once(indexed, monkeypatch):
    monkeypatch.setattr("attribution.services.trying_again.BATCH", 2)
    for _ in range(5):
        failed_answer(indexed)
    assert try_all_again(acting_user=indexed.staff, at=NOON) == Tried(0, 5)
    assert AuditEvent.objects.filter(verb="attribution.tried_again").count() == 5
