"""A model from a model: trained further or merged, with its parents named, credited and paid."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from django.db import connection, transaction
from django.db.utils import DatabaseError
from django.urls import reverse
from django.utils import timezone

from attribution.learnt import grouped_training_records
from governance.selectors import current_parameters
from ledger.errors import SelfRoyalty
from modelfactory import jobs, lineage, selectors
from modelfactory.errors import RunError
from modelfactory.models import BaseModel, Model, Run, RunParent
from modelfactory.services import drafts, merging, publishing, runs
from modelfactory.training.recipe import Recipe
from serving.terms import terms_for
from tests.modelfactory.world import NOW, SMALL, made_model, person
from tests.modelfactory.world import version as make_version

SHAPED = Recipe.from_json({**SMALL, "learning_rate": 0.02, "seed": 3})


def train(run: Run) -> Model:
    """Take the run through a worker, and publish what it makes."""
    if run.state == Run.State.DRAFT:
        runs.start_run(run=run, acting_user=run.builder, at=timezone.now())
    assert jobs.execute(run.pk, device="cpu", dtype="float32")
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED, run.failure_reason
    return publish(run.model)


def publish(model: Model) -> Model:
    return publishing.publish_model(model=model, acting_user=model.owner, at=timezone.now())


def quickly(run: Run) -> Model:
    """The same without the training."""
    return publish(made_model(run))


@pytest.fixture
def parent(draft) -> Model:
    return quickly(draft)


@pytest.fixture
def other(db):
    return person("other")


def tuned(parent: Model, owner, slug: str, **changes) -> Run:
    return drafts.create_run(
        name=slug, base_model=parent.base_model, versions=[make_version(owner, slug=slug)],
        recipe=SHAPED, parent=parent, acting_user=owner, at=NOW, **changes,
    )  # fmt: skip


def passing(model: Model) -> dict:
    found = lineage.passing_of(model.pk, current_parameters())
    return {one.source_id: Fraction(one.weight, found.whole) for one in found.royalties}


def test_a_run_starts_from_a_published_adapter_and_its_model_says_so(draft, other) -> None:
    parent = train(draft)
    child = train(tuned(parent, other, "doors"))
    told = child.manifest["manifest"]["parents"]
    assert told == [
        {
            "model": parent.slug, "id": str(parent.pk), "manifest_sha256": parent.manifest_sha256,
            "adapter_sha256": parent.adapter_sha256, "weight": 10_000,
        }
    ]  # fmt: skip
    assert "parents" not in parent.manifest["manifest"]
    assert child.adapter_sha256 != parent.adapter_sha256
    assert child.evaluation["loss_parent"] > 0
    assert passing(child) == {parent.pk: Fraction(1, 10)}


def test_two_models_merge_into_one_that_credits_the_people_of_both(draft, owner, other) -> None:
    parents = [train(draft), train(tuned_from_scratch(draft, other))]
    run = merging.start_merge(
        name="Both", parents=[(parents[0], 2_500), (parents[1], 7_500)], acting_user=other, at=NOW
    )
    merged = train(run)
    assert [one["weight"] for one in merged.manifest["manifest"]["parents"]] == [7_500, 2_500]
    assert merged.adapter_config["r"] == 2 * SMALL["rank"]
    assert merged.evaluation["held_out_records"] > 0
    assert passing(merged) == {parents[0].pk: Fraction(1, 40), parents[1].pk: Fraction(3, 40)}
    theirs = {record.record_id for one in parents for record in selectors.training_records(one.pk)}
    assert {record.record_id for record in selectors.training_records(merged.pk)} == theirs
    assert {group.contributor for _, group in grouped_training_records(merged)} == {
        owner.pk, other.pk,
    }  # fmt: skip


def tuned_from_scratch(draft: Run, owner) -> Run:
    return drafts.create_run(
        name="Windows", base_model=draft.base_model,
        versions=[make_version(owner, slug="windows")], recipe=SHAPED, acting_user=owner, at=NOW,
    )  # fmt: skip


def test_generations_are_paid_and_the_records_of_all_are_learnt(parent, other) -> None:
    child = quickly(tuned(parent, other, "doors"))
    grand = quickly(tuned(child, person("third"), "windows"))
    assert passing(grand) == {child.pk: Fraction(9, 100), parent.pk: Fraction(1, 100)}
    lines = lineage.ancestry(grand, current_parameters())
    assert [(one.model, one.generation) for one in lines] == [(child, 1), (parent, 2)]
    records = {record.record_id for record in selectors.training_records(grand.pk)}
    for model in (parent, child):
        assert {record.record_id for record in selectors.training_records(model.pk)} <= records
    terms = terms_for(grand, current_parameters())
    assert {one.owner_id for one in terms.royalties.royalties} == {child.owner_id, parent.owner_id}


def test_a_taken_down_parent_earns_nothing_of_new_fees(parent, other, staff) -> None:
    child = quickly(tuned(parent, other, "doors"))
    grand = quickly(tuned(child, person("third"), "windows"))
    publishing.take_down_model(model=child, statement="Stolen.", acting_user=staff, at=NOW)
    assert passing(grand) == {parent.pk: Fraction(1, 100)}


def test_a_run_starts_from_what_is_published_alone(draft, other, staff) -> None:
    parent = made_model(draft)
    with pytest.raises(RunError, match="Only a published model"):
        tuned(parent, other, "doors")
    parent = publish(parent)
    run = tuned(parent, other, "windows")
    publishing.take_down_model(model=parent, statement="Stolen.", acting_user=staff, at=NOW)
    with pytest.raises(RunError, match="not published any more") as refusal:
        runs.start_run(run=run, acting_user=other, at=NOW)
    assert refusal.value.code == "PARENT"


def test_a_recipe_or_base_that_does_not_fit_is_refused_with_a_sentence(parent, other) -> None:
    run = tuned(parent, other, "doors")
    changed = Recipe.from_json({**run.recipe, "rank": 4})
    drafts.set_recipe(run=run, recipe=changed, acting_user=other)
    with pytest.raises(RunError, match="keep its settings: LoRA rank differs"):
        runs.start_run(run=run, acting_user=other, at=NOW)
    BaseModel.objects.filter(pk=parent.base_model_id).update(weights_sha256="0" * 64)
    drafts.set_recipe(run=run, recipe=SHAPED, acting_user=other)
    run.refresh_from_db()
    with pytest.raises(RunError, match="changed since"):
        runs.start_run(run=run, acting_user=other, at=NOW)


def test_a_model_cannot_be_made_from_itself(parent) -> None:
    before = RunParent.objects.count()
    with pytest.raises(SelfRoyalty) as refusal:
        drafts.set_parent(run=parent.run, parent=parent, acting_user=parent.owner)
    assert refusal.value.code == "self_royalty"
    with pytest.raises(DatabaseError, match="never change"), transaction.atomic():
        RunParent.objects.create(run=parent.run, model=parent)
    assert RunParent.objects.count() == before


def test_no_link_can_close_a_circle(parent, other) -> None:
    child = quickly(tuned(parent, other, "doors"))
    with pytest.raises(DatabaseError), transaction.atomic():
        RunParent.objects.create(run=parent.run, model=child)
    link = child.run.parents.get()
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute("DELETE FROM modelfactory_runparent WHERE id = %s", [link.pk])


def test_what_does_not_go_together_is_not_merged(parent, other) -> None:
    second = quickly(tuned_from_scratch(parent.run, other))

    def refused(*parents: tuple[Model, int]) -> str:
        with pytest.raises(RunError) as refusal:
            merging.start_merge(name="x", parents=parents, acting_user=other, at=NOW)
        assert refusal.value.code == "PARENT"
        return refusal.value.message

    assert "Merge 2 to 8" in refused((parent, 10_000))
    assert "stands twice" in refused((parent, 5_000), (parent, 5_000))
    assert "make 100 %" in refused((parent, 5_000), (second, 4_999))
    assert "above 0 %" in refused((parent, 10_000), (second, 0))
    Model.objects.filter(pk=second.pk).update(base_model=BaseModel.objects.create(
        slug="b2", name="Second base", origin="b2", state="READY"))  # fmt: skip
    second.refresh_from_db()
    assert "Second base" in refused((parent, 5_000), (second, 5_000))
    Model.objects.filter(pk=second.pk).update(state="TAKEN_DOWN")
    second.refresh_from_db()
    assert "not published" in refused((parent, 5_000), (second, 5_000))
    assert not Run.objects.filter(kind="MERGE").exists()


def test_a_person_goes_from_a_model_to_a_run_or_a_merge(as_user, parent, other) -> None:
    second = quickly(tuned_from_scratch(parent.run, other))
    browser = as_user(other)
    page = browser.get(parent.get_absolute_url()).content.decode()
    assert f"?parent={parent.slug}" in page
    wizard = reverse("modelfactory:wizard") + f"?parent={parent.slug}"
    assert "starts from the adapter" in browser.get(wizard).content.decode()
    browser.post(wizard, {"name": "Further", "goal": ""})
    run = Run.objects.get(name="Further")
    assert run.parents.get().model == parent
    assert (run.base_model, run.parsed_recipe.rank) == (parent.base_model, SMALL["rank"])
    review = reverse("modelfactory:wizard-review", args=[run.pk])
    assert "10 %" in browser.get(review).content.decode()
    scratch = reverse("modelfactory:from-scratch", args=[run.pk])
    assert as_user(None).post(scratch).status_code == 302
    assert as_user(parent.owner).post(scratch).status_code == 404
    assert browser.get(scratch).status_code == 405
    browser.post(scratch)
    assert not run.parents.exists()

    merge = reverse("modelfactory:merge", args=[parent.slug])
    assert as_user(None).get(merge).status_code == 302
    assert second.name in browser.get(merge).content.decode()
    parts = {f"part_{parent.pk}": "30", f"part_{second.pk}": "69.99"}
    refused = browser.post(merge, {"name": "Both"} | parts)
    assert refused.status_code == 422
    assert "make 100 %" in refused.content.decode()
    browser.post(merge, {"name": "Both"} | parts | {f"part_{second.pk}": "70"})
    run = Run.objects.get(name="Both", kind="MERGE")
    assert {one.model: one.weight for one in run.parents.all()} == {parent: 3_000, second: 7_000}
    shown = browser.get(run.get_absolute_url()).content.decode()
    assert "70 %" in shown
    assert as_user(other).delete(merge).status_code == 405


def test_a_models_page_and_the_api_show_its_ancestry(as_user, parent, other) -> None:
    child = quickly(tuned(parent, other, "doors"))
    page = as_user(None).get(child.get_absolute_url()).content.decode()
    assert "Trained further from" in page
    assert "10 %" in page
    assert "Made from it" in as_user(None).get(parent.get_absolute_url()).content.decode()
    told = as_user(None).get(f"/api/v1/models/{child.slug}/").json()["ancestry"]
    assert told == [
        {
            "model": parent.slug, "owner": parent.owner.handle, "state": "PUBLISHED",
            "generation": 1, "percent": 10.0,
        }
    ]  # fmt: skip


def send(browser, url: str, body: dict):
    return browser.post(url, json.dumps(body), content_type="application/json")


def test_a_program_starts_a_run_from_a_model_and_merges(as_user, parent, other) -> None:
    make_version(other, slug="doors")
    second = quickly(tuned_from_scratch(parent.run, other))
    body = {
        "name": "Further", "parent": parent.slug,
        "versions": [{"datanet": "doors", "number": 1}], "recipe": {"epochs": 1, "cutoff": 64},
    }  # fmt: skip
    browser = as_user(other)
    assert send(as_user(None), "/api/v1/runs/", body).status_code in (401, 403)
    refused = send(browser, "/api/v1/runs/", body | {"recipe": {"rank": 3}})
    assert refused.status_code == 409
    assert not Run.objects.filter(name="Further").exists()
    made = send(browser, "/api/v1/runs/", body)
    assert made.status_code == 201, made.content
    assert made.json()["parents"] == [{"model": parent.slug, "weight": 10_000}]
    assert made.json()["state"] == "QUEUED"

    merge = {"name": "Both", "parents": [{"model": parent.slug, "weight": 4_000}]}
    assert send(browser, "/api/v1/models/merge/", merge).status_code == 409
    merge["parents"].append({"model": second.slug, "weight": 6_000})
    assert send(as_user(None), "/api/v1/models/merge/", merge).status_code in (401, 403)
    made = send(browser, "/api/v1/models/merge/", merge)
    assert made.status_code == 201, made.content
    assert made.json()["kind"] == "MERGE"
