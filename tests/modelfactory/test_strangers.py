"""Every address, tried as its owner, as somebody else, as a stranger, and by the wrong method."""

import pytest
from django.urls import reverse

from modelfactory.models import Model, Run
from modelfactory.services import publishing
from tests.modelfactory.world import NOW, made_model


@pytest.fixture
def model(draft):
    return made_model(draft)


@pytest.fixture
def open_draft(builder):
    from modelfactory.services import drafts

    return drafts.create_draft(name="Secret draft", acting_user=builder, at=NOW)


def statuses(as_user, url, *users, method="get"):
    return [getattr(as_user(user), method)(url).status_code for user in users]


def test_the_lists_are_open_and_show_no_drafts(as_user, model, open_draft, builder, stranger):
    for name in ("models", "runs", "bases"):
        url = reverse(f"modelfactory:{name}")
        assert statuses(as_user, url, None, stranger, builder) == [200, 200, 200]
        assert as_user(None).post(url).status_code == 405
    for name in ("models", "runs"):
        page = as_user(stranger).get(reverse(f"modelfactory:{name}")).content.decode()
        assert "Colours" not in page
        assert "Secret draft" not in page


def test_a_draft_model_is_its_owners_until_it_is_published(
    as_user, model, builder, stranger, staff
):
    url = model.get_absolute_url()
    assert statuses(as_user, url, builder, staff, stranger, None) == [200, 200, 404, 404]
    publishing.publish_model(model=model, acting_user=builder, at=NOW)
    assert statuses(as_user, url, stranger, None) == [200, 200]


@pytest.mark.parametrize("name", ["manifest", "adapter"])
def test_what_can_be_taken_away_follows_the_model(as_user, model, builder, stranger, name):
    url = reverse(f"modelfactory:{name}", args=[model.slug])
    assert statuses(as_user, url, builder, stranger, None) == [200, 404, 404]
    assert as_user(builder).post(url).status_code == 405


def test_a_model_that_was_taken_down_says_so_and_keeps_its_adapter(
    as_user, model, builder, stranger, staff
):
    publishing.publish_model(model=model, acting_user=builder, at=NOW)
    publishing.take_down_model(model=model, statement="Stolen.", acting_user=staff, at=NOW)
    page = as_user(stranger).get(model.get_absolute_url())
    assert page.status_code == 200
    assert "Stolen." in page.content.decode()
    assert as_user(stranger).get(f"/models/{model.slug}/manifest.json").status_code == 200
    assert as_user(builder).get(f"/models/{model.slug}/adapter.zip").status_code == 403
    assert model.name not in as_user(stranger).get("/models/").content.decode()


def test_only_the_owner_publishes(as_user, model, builder, stranger, staff):
    url = reverse("modelfactory:publish-model", args=[model.slug])
    assert statuses(as_user, url, builder, staff, stranger, None) == [200, 403, 404, 302]
    form = {"summary": "x", "input_price": "0.5", "output_price": "1"}
    assert as_user(staff).post(url, form).status_code == 403
    assert as_user(builder).post(url, form | {"input_price": "2"}).status_code == 200
    assert as_user(builder).post(url, form).status_code == 302
    model.refresh_from_db()
    assert (model.state, model.input_price) == (Model.State.PUBLISHED, 5 * 10**17)


def test_only_staff_take_down(as_user, model, builder, staff):
    url = reverse("modelfactory:take-down-model", args=[model.slug])
    assert statuses(as_user, url, staff, builder, None) == [200, 403, 302]
    assert as_user(staff).post(url, {"statement": ""}).status_code == 200
    assert as_user(staff).post(url, {"statement": "Rights."}).status_code == 302


def test_only_staff_register_base_models(as_user, base, builder, staff):
    url = reverse("modelfactory:register-base")
    assert statuses(as_user, url, staff, builder, None) == [200, 403, 302]
    form = {"source": "HUB", "origin": "owner/name", "name": ""}
    assert as_user(builder).post(url, form).status_code == 403
    assert as_user(staff).post(url, form | {"origin": "nonsense"}).status_code == 200
    assert as_user(staff).post(url, form).status_code == 302
    again = reverse("modelfactory:check-base", args=["name"])
    assert as_user(builder).post(again).status_code == 403
    assert as_user(staff).get(again).status_code == 405
    assert statuses(as_user, "/models/bases/name/", None, builder) == [200, 200]


def test_a_run_is_its_builders_until_its_model_is_published(
    as_user, model, builder, stranger, staff
):
    for name in ("run", "run-live"):
        url = reverse(f"modelfactory:{name}", args=[model.run_id])
        assert statuses(as_user, url, builder, staff, stranger, None) == [200, 200, 404, 404]
        assert as_user(builder).post(url).status_code == 405
    publishing.publish_model(model=model, acting_user=builder, at=NOW)
    url = reverse("modelfactory:run", args=[model.run_id])
    assert statuses(as_user, url, stranger, None) == [200, 200]


@pytest.mark.parametrize("name", ["cancel-run", "restart-run"])
def test_only_the_builder_steers_a_run(as_user, model, builder, stranger, name):
    url = reverse(f"modelfactory:{name}", args=[model.run_id])
    assert statuses(as_user, url, stranger, method="post") == [404]
    assert statuses(as_user, url, None, method="post") == [302]
    assert as_user(builder).get(url).status_code == 405
    publishing.publish_model(model=model, acting_user=builder, at=NOW)
    assert statuses(as_user, url, stranger, method="post") == [403]
    # It has ended, so there is nothing to steer; the page says so.
    assert as_user(builder).post(url, follow=True).status_code == 200
    assert Run.objects.get(pk=model.run_id).state == "SUCCEEDED"


STEPS = ["goal", "data", "base", "settings", "review"]


@pytest.mark.parametrize("step", STEPS)
def test_a_draft_is_seen_by_nobody_else(as_user, draft, builder, stranger, staff, step):
    url = reverse(f"modelfactory:wizard-{step}", args=[draft.pk])
    assert statuses(as_user, url, builder, stranger, staff, None) == [200, 404, 404, 302]
    assert as_user(stranger).post(url).status_code == 404
    assert as_user(builder).delete(url).status_code == 405


def test_a_draft_is_deleted_by_its_builder_alone(as_user, draft, builder, stranger):
    url = reverse("modelfactory:delete-draft", args=[draft.pk])
    assert as_user(stranger).post(url).status_code == 404
    assert as_user(builder).get(url).status_code == 405
    assert as_user(builder).post(url).status_code == 302
    assert not Run.objects.filter(pk=draft.pk).exists()


def test_the_wizard_asks_strangers_to_sign_in(as_user, stranger):
    url = reverse("modelfactory:wizard")
    assert statuses(as_user, url, None, stranger) == [302, 200]


@pytest.mark.parametrize("path", ["base-models/", "base-models/tiny/", "models/"])
def test_the_api_reads_and_writes_nothing(as_user, base, model, stranger, path):
    url = f"/api/v1/{path}"
    assert statuses(as_user, url, None, stranger) == [200, 200]
    assert as_user(stranger).post(url, {}).status_code in (403, 405)
    assert as_user(stranger).delete(url).status_code in (403, 405)


def test_a_run_is_started_by_api_by_those_who_are_signed_in_alone(as_user, base, model, stranger):
    url = "/api/v1/runs/"
    assert statuses(as_user, url, None, stranger) == [200, 200]
    assert as_user(None).post(url, {}, content_type="application/json").status_code in (401, 403)
    refused = as_user(stranger).post(url, {}, content_type="application/json")
    assert refused.status_code == 400
    assert "versions" in refused.json()
    assert as_user(stranger).delete(url).status_code == 405


def test_the_api_shows_runs_and_models_to_those_who_may_see_them(as_user, model, builder, stranger):
    run = f"/api/v1/runs/{model.run_id}/"
    for url in (run, f"{run}events/", f"/api/v1/models/{model.slug}/"):
        assert statuses(as_user, url, builder, stranger, None) == [200, 404, 404]
    assert as_user(builder).get(f"{run}events/?after=x").json() == []
    told = as_user(builder).get(f"/api/v1/models/{model.slug}/").json()
    assert told["input_price"] == str(model.input_price)
    assert told["evaluation"]["loss_after"] == 2.25
