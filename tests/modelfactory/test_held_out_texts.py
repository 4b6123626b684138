"""Held-out texts are records: whoever may not see a record does not read it on a model."""

import json

import pytest

from datanets.models import Datanet, Record
from modelfactory.models import Run
from modelfactory.services import publishing
from tests.modelfactory.world import NOW, made_model

SECRET = "The seventh door is painted in a warm grey."


@pytest.fixture
def model(draft, version, builder):
    """A published model with a held-out text in its evaluation."""
    made = made_model(draft)
    sample = {
        "record": str(version.entries.first().record_id),
        "prompt": "Which colour has the seventh door?",
        "reference": SECRET,
        "answer": "Grey.",
        "answer_before": "",
    }
    made.evaluation["answers"]["samples"] = [sample]
    made.save(update_fields=["evaluation"])
    run = Run.objects.get(pk=made.run_id)
    run.result["evaluation"] = made.evaluation
    run.save(update_fields=["result"])
    return publishing.publish_model(model=made, acting_user=builder, at=NOW)


def reads(as_user, model, user):
    return SECRET in as_user(user).get(model.get_absolute_url()).content.decode()


@pytest.mark.parametrize("path", ["runs/{0.run_id}/", "runs/", "models/{0.slug}/", "models/"])
def test_the_api_gives_figures_and_no_texts(as_user, model, path):
    response = as_user(None).get(f"/api/v1/{path.format(model)}")
    assert response.status_code == 200
    assert "2.25" in json.dumps(response.json())
    assert "seventh" not in json.dumps(response.json())


def test_a_run_that_has_no_result_has_an_empty_one(as_user, model, builder):
    Run.objects.filter(pk=model.run_id).update(result={})
    assert as_user(builder).get(f"/api/v1/runs/{model.run_id}/").json()["result"] == {}


def test_the_page_shows_what_everybody_may_read(as_user, model, stranger):
    assert reads(as_user, model, None)
    assert reads(as_user, model, stranger)


@pytest.mark.parametrize("state", ["WITHDRAWN", "TAKEN_DOWN"])
def test_the_page_forgets_a_record_that_is_withheld(as_user, model, state, builder, owner, staff):
    Record.objects.update(state=state)
    assert not any(reads(as_user, model, user) for user in (None, builder, owner, staff))


def test_the_page_shows_records_of_a_closed_datanet_to_its_members_alone(
    as_user, model, stranger, owner
):
    Datanet.objects.update(state="DRAFT")
    assert not reads(as_user, model, None)
    assert not reads(as_user, model, stranger)
    assert reads(as_user, model, owner)


def test_a_model_that_was_taken_down_shows_no_texts(as_user, model, staff, owner):
    publishing.take_down_model(model=model, statement="Rights.", acting_user=staff, at=NOW)
    assert not reads(as_user, model, owner)
