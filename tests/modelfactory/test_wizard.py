"""The wizard in the browser: five addresses, kept between them, ending in a queued run."""

import pytest
from django.urls import reverse

from modelfactory.models import Run
from tests.modelfactory import world


@pytest.fixture
def browser(as_user, builder):
    return as_user(builder)


def step(run, name):
    return reverse(f"modelfactory:wizard-{name}", args=[run.pk])


def test_it_goes_from_a_goal_to_a_queued_run(browser, version, base):
    response = browser.post(reverse("modelfactory:wizard"), {"name": "Doors", "goal": "Colours."})
    run = Run.objects.get()
    assert response.url == step(run, "data")
    response = browser.post(step(run, "data"), {"versions": [version.pk]})
    assert response.url == step(run, "base")
    response = browser.post(step(run, "base"), {"base_model": base.pk})
    assert response.url == step(run, "settings")
    simple = {"epochs": 1, "learning_rate": 0.01, "batch_size": 4, "cutoff": 64}
    response = browser.post(step(run, "settings"), simple)
    assert response.url == step(run, "review")
    page = browser.get(step(run, "review")).content.decode()
    assert "20 records of 1 contributor" in page
    assert "<mark>" in page
    response = browser.post(step(run, "review"))
    run.refresh_from_db()
    assert response.url == reverse("modelfactory:run", args=[run.pk])
    assert run.state == Run.State.QUEUED
    assert run.parsed_recipe.learning_rate == 0.01
    page = browser.get(response.url).content.decode()
    assert "number 1 in the queue" in page
    assert "No training worker answers now" in page


def test_a_draft_is_kept_and_found_again(browser, draft):
    page = browser.get(reverse("modelfactory:wizard")).content.decode()
    assert step(draft, "goal") in page
    page = browser.get(step(draft, "data")).content.decode()
    assert "checked" in page


def test_a_version_may_come_from_a_datanets_page(browser, version):
    url = f"{reverse('modelfactory:wizard')}?version={version.pk}"
    assert "is chosen as data" in browser.get(url).content.decode()
    browser.post(url, {"name": "Doors", "goal": ""})
    assert list(Run.objects.get().versions.all()) == [version]
    assert browser.get(f"{reverse('modelfactory:wizard')}?version=nonsense").status_code == 200


def test_simple_settings_keep_the_advanced_ones(browser, draft):
    simple = {"epochs": 3, "learning_rate": 0.01, "batch_size": 4, "cutoff": 64}
    browser.post(step(draft, "settings"), simple)
    draft.refresh_from_db()
    assert draft.parsed_recipe.epochs == 3
    assert draft.parsed_recipe.rank == 2


def test_a_value_out_of_bounds_is_told_at_its_field(browser, draft):
    wrong = {"epochs": 300, "learning_rate": 0.01, "batch_size": 4, "cutoff": 64}
    response = browser.post(step(draft, "settings"), wrong)
    assert response.status_code == 200
    assert response.context["form"].errors["epochs"]


@pytest.mark.parametrize("weight", ["0", "11", "x", "-1"])
def test_a_strange_weight_is_refused(browser, draft, version, weight):
    form = {"versions": [version.pk], f"weight_{version.pk}": weight}
    response = browser.post(step(draft, "data"), form)
    assert "A weight is a whole number" in response.content.decode()


def test_no_choice_is_told(browser, draft):
    assert "Choose at least one version" in browser.post(step(draft, "data")).content.decode()
    assert "Choose a base model" in browser.post(step(draft, "base")).content.decode()


def test_a_refused_start_stays_a_draft_and_says_what_to_do(browser, draft, owner, builder):
    from modelfactory.services import drafts

    few = world.version(owner, records=2, slug="few")
    drafts.set_data(run=draft, versions=[few], acting_user=builder)
    page = browser.post(step(draft, "review"), follow=True).content.decode()
    assert "2 usable records in Few are too few" in page
    assert few.datanet.get_absolute_url() in page
    draft.refresh_from_db()
    assert draft.state == Run.State.DRAFT


def test_the_review_tells_what_states_of_the_run_cost(browser, draft):
    draft.recipe = {**draft.recipe, "checkpoints": 1}
    draft.save(update_fields=["recipe"])
    page = browser.get(step(draft, "review")).content.decode()
    assert "then for the index</span>" in page
    assert "states of the adapter" not in page
    draft.recipe = {**draft.recipe, "checkpoints": 4}
    draft.save(update_fields=["recipe"])
    page = browser.get(step(draft, "review")).content.decode()
    assert "4 states of the adapter" in page
    assert "then for the index over 4 states" in page
    assert "averaged over 4 states of the run" in page
    browser.post(step(draft, "review"))
    draft.refresh_from_db()
    assert draft.estimate["states"] == 4
    assert draft.estimate["kept_bytes"] == 16 * draft.estimate["trainable_parameters"]
