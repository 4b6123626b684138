"""Each page and endpoint: for whom it opens, what it says, and the wrong method."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys, pages
from modelfactory.models import Model
from serving.models import Completion, Deployment, DeploymentState
from serving.questions import Question, Sampling
from serving.services.completions import start_completion
from tests.serving.conftest import beat

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(tuned, client_person) -> Completion:
    return start_completion(
        deployment=tuned,
        question=Question.chat("What is <b>bold</b>?"),
        sampling=Sampling(max_tokens=5),
        payer=client_person,
        acting_user=client_person,
        at=timezone.now(),
    )


def url(name: str, *args: object) -> str:
    return reverse(f"serving:{name}", args=args)


def login_needed(response) -> bool:
    return response.status_code == 302 and response["Location"].startswith("/accounts/login/")


# ---- what everybody may read


@pytest.mark.parametrize("name", ["deployments", "playground"])
def test_a_stranger_reads_the_open_pages_even_when_they_are_empty(client, name, db):
    response = client.get(url(name))
    assert response.status_code == 200
    assert "Deploy a model" in response.content.decode()
    assert client.post(url(name)).status_code == 405


def test_a_deployment_shows_its_price_and_code_to_a_stranger_without_controls(client, tuned):
    page = client.get(url("deployment", tuned.name)).content.decode()
    assert "0.000001 OPEN per token" in page
    assert "curl http" in page
    assert "from openai import OpenAI" in page
    assert url("stop", tuned.name) not in page


def test_its_owner_has_the_controls(client, tuned, builder):
    client.force_login(builder)
    page = client.get(url("deployment", tuned.name)).content.decode()
    assert url("stop", tuned.name) in page
    assert url("prices", tuned.name) in page


def test_a_draft_models_deployment_is_not_there_for_a_stranger(client, tuned, stranger):
    Model.objects.update(state=Model.State.DRAFT)
    client.force_login(stranger)
    for name in ("deployment", "prices"):
        assert client.get(url(name, tuned.name)).status_code == 404
    for name in ("stop", "start"):
        assert client.post(url(name, tuned.name)).status_code == 404
    assert tuned.name not in client.get(url("deployments")).content.decode()


# ---- what needs a login


@pytest.mark.parametrize("name", ["deploy", "completions"])
def test_nobody_deploys_or_reads_usage_without_signing_in(client, name, db):
    assert login_needed(client.get(url(name)))


@pytest.mark.parametrize("name", ["stop", "start", "prices"])
def test_nobody_changes_a_deployment_without_signing_in(client, tuned, name):
    assert login_needed(client.post(url(name, tuned.name)))


@pytest.mark.parametrize("name", ["stop", "start"])
def test_a_stranger_changes_nothing(client, tuned, stranger, name):
    client.force_login(stranger)
    page = client.post(url(name, tuned.name), follow=True).content.decode()
    assert "Only the owner" in page
    tuned.refresh_from_db()
    assert tuned.state == "LIVE"
    assert client.get(url(name, tuned.name)).status_code == 405


def test_a_stranger_sets_no_price(client, tuned, stranger):
    client.force_login(stranger)
    given = {"input_price": "1", "output_price": "1"}
    page = client.post(url("prices", tuned.name), given, follow=True).content.decode()
    assert "Only the owner" in page
    tuned.refresh_from_db()
    assert tuned.input_price == 10**12


def test_the_owner_sets_prices_in_open_per_thousand_tokens(client, tuned, builder):
    client.force_login(builder)
    page = client.get(url("prices", tuned.name)).content.decode()
    assert 'value="0.001"' in page
    given = {"input_price": "0.5", "output_price": "0"}
    assert client.post(url("prices", tuned.name), given).status_code == 302
    tuned.refresh_from_db()
    assert (tuned.input_price, tuned.output_price) == (5 * 10**14, 0)


@pytest.mark.parametrize("price", ["-1", "a lot", "1e3", "0.0000000000000001", "1001", "٣"])
def test_a_price_that_is_none_is_refused_at_the_field(client, tuned, builder, price):
    client.force_login(builder)
    response = client.post(url("prices", tuned.name), {"input_price": price, "output_price": "1"})
    assert response.status_code == 200
    assert "field__error" in response.content.decode()


def test_stopping_and_starting_from_the_page(client, tuned, builder):
    client.force_login(builder)
    page = client.post(url("stop", tuned.name), follow=True).content.decode()
    assert "STOPPED" in page
    page = client.post(url("start", tuned.name), follow=True).content.decode()
    assert "REQUESTED" in page
    assert 'hx-select="#state"' in page
    Deployment.objects.update(state="LIVE")
    page = client.get(url("deployment", tuned.name)).content.decode()
    assert 'id="state"' in page
    assert "hx-select" not in page


# ---- deploying


def test_a_builder_deploys_a_model_from_its_page(client, make_model, builder, live_worker):
    model = make_model()
    client.force_login(builder)
    for address in (f"{url('deploy')}?model={model.slug}", pages.url("deploy", model.pk)):
        page = client.get(address).content.decode()
        assert f'value="model:{model.slug}" selected' in page
        assert 'value="0.001"' in page
    given = {"what": f"model:{model.slug}", "input_price": "0.002", "output_price": "0.003"}
    response = client.post(url("deploy"), given)
    assert response["Location"] == url("deployment", model.slug)
    made = Deployment.objects.get(name=model.slug)
    assert (made.input_price, made.output_price) == (2 * 10**12, 3 * 10**12)


def test_without_a_worker_the_form_says_why(client, make_model, builder):
    model = make_model()
    client.force_login(builder)
    given = {"what": f"model:{model.slug}", "input_price": "0", "output_price": "0"}
    page = client.post(url("deploy"), given).content.decode()
    assert "No live worker serves OpenLedger Starter" in page
    assert not Deployment.objects.exists()


def test_a_stranger_cannot_choose_the_model_of_another(client, make_model, stranger, live_worker):
    model = make_model()
    client.force_login(stranger)
    assert "You have no model to deploy yet" in client.get(url("deploy")).content.decode()
    given = {"what": f"model:{model.slug}", "input_price": "0", "output_price": "0"}
    assert client.post(url("deploy"), given).status_code == 200
    assert not Deployment.objects.exists()


# ---- one's completions


def test_ones_usage_and_completion_are_read_by_oneself(client, asked, client_person):
    client.force_login(client_person)
    assert str(asked.pk) in client.get(url("completions")).content.decode()
    page = client.get(url("completion", asked.pk)).content.decode()
    assert "&lt;b&gt;bold" in page
    assert "<b>bold" not in page


def test_which_tokens_mattered_is_a_part_of_its_own_for_the_payer(client, asked, client_person):
    client.force_login(client_person)
    assert pages.url("prompt_tokens_of_completion", asked.pk) == url("prompt_tokens", asked.pk)
    assert pages.url("prompt_tokens_of_completion", client_person.pk) == ""  # no completion of ours
    answer = client.get(url("prompt_tokens", asked.pk))
    assert answer.status_code == 200
    assert "piece" not in answer.content.decode()  # there is no receipt yet
    assert client.post(url("prompt_tokens", asked.pk)).status_code == 405


def test_which_tokens_mattered_is_nobody_elses(client, asked, stranger, staff):
    assert client.get(url("prompt_tokens", asked.pk)).status_code == 404
    for person in (stranger, staff):
        client.force_login(person)
        assert client.get(url("prompt_tokens", asked.pk)).status_code == 404


def test_a_models_page_knows_where_it_is_asked_while_it_is_live(tuned):
    address = f"{url('playground')}?model={tuned.name}"
    assert pages.url("playground_of_model", tuned.model_id) == address
    Deployment.objects.filter(pk=tuned.pk).update(state=DeploymentState.STOPPED)
    assert pages.url("playground_of_model", tuned.model_id) == ""


def test_nobody_else_reads_or_stops_them(client, asked, stranger, staff):
    for person in (stranger, staff):
        client.force_login(person)
        assert client.get(url("completion", asked.pk)).status_code == 404
        assert client.post(url("cancel", asked.pk)).status_code == 404
        assert str(asked.pk) not in client.get(url("completions")).content.decode()
    client.logout()
    assert login_needed(client.get(url("completion", asked.pk)))
    assert login_needed(client.post(url("cancel", asked.pk)))


def test_one_stops_ones_own(client, asked, client_person):
    client.force_login(client_person)
    assert client.get(url("cancel", asked.pk)).status_code == 405
    client.post(url("cancel", asked.pk))
    asked.refresh_from_db()
    assert asked.state == "CANCELLED"


def test_an_empty_usage_leads_to_the_playground(client, stranger):
    client.force_login(stranger)
    assert "You have not asked a model yet" in client.get(url("completions")).content.decode()


# ---- the playground


def test_the_playground_offers_what_one_may_ask(client, tuned, client_person, stranger):
    client.force_login(client_person)
    page = client.get(url("playground")).content.decode()
    assert '<option value="builder-tuned" selected' in page
    assert '<option value="starter"' in page
    client.force_login(stranger)
    page = client.get(f"{url('playground')}?model=nobody").content.decode()
    assert "Your balance is empty" in page
    assert "There is no live model “nobody”" in page


def test_it_asks_a_stranger_to_sign_in(client, tuned):
    assert "Sign in first" in client.get(url("playground")).content.decode()


def body(**changes: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "Hello"}]
    return {"model": "builder-tuned", "messages": messages, "max_tokens": 10, **changes}


@pytest.mark.parametrize("name", ["quote", "ask"])
def test_its_endpoints_are_for_people_who_are_signed_in(client, tuned, name):
    response = client.post(url(name), json.dumps(body()), content_type="application/json")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "sign_in"
    assert client.get(url(name)).status_code == 405


@pytest.mark.parametrize("name", ["quote", "ask"])
def test_its_endpoints_refuse_a_forged_request(tuned, client_person, name):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(client_person)
    response = strict.post(url(name), json.dumps(body()), content_type="application/json")
    assert response.status_code == 403
    assert not Completion.objects.exists()


def test_a_quote_says_the_highest_price_and_writes_nothing(client, tuned, client_person):
    client.force_login(client_person)
    response = client.post(url("quote"), json.dumps(body()), content_type="application/json")
    found = response.json()
    assert int(found["highest_fee_wei"]) == found["prompt_tokens"] * 10**12 + 20 * 10**12
    assert found["affordable"] is True
    assert found["balance"] == "10"
    assert not Completion.objects.exists()


@pytest.mark.parametrize("name", ["quote", "ask"])
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"model": "nobody"}, 404),
        ({"messages": []}, 400),
        ({"max_tokens": 9_999}, 400),
        ({"messages": [{"role": "user", "content": "word " * 2_000}]}, 400),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(
    client, tuned, client_person, name, changes, status
):
    client.force_login(client_person)
    response = client.post(url(name), json.dumps(body(**changes)), content_type="application/json")
    assert response.status_code == status
    assert response.json()["error"]["message"].endswith((".", "them."))


def test_asking_without_a_balance_is_402(client, tuned, stranger):
    client.force_login(stranger)
    response = client.post(url("ask"), json.dumps(body()), content_type="application/json")
    assert response.status_code == 402
    assert response.json()["error"]["code"] == "insufficient_funds"


# ---- the API without a worker behind it


@pytest.fixture
def authorised(client, client_person):
    _, secret = api_keys.create_key(
        user=client_person, name="k", acting_user=client_person, at=timezone.now()
    )
    return {"HTTP_AUTHORIZATION": f"Bearer {secret}"}


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/chat/completions", "post"),
        ("/v1/completions", "post"),
        ("/v1/models", "get"),
        ("/v1/models/starter", "get"),
        ("/v1/nothing/here", "get"),
    ],
)
def test_the_api_is_closed_without_a_key(client, tuned, path, method):
    response = getattr(client, method)(path, data=None, content_type="application/json")
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_session_is_no_key(client, tuned, client_person):
    client.force_login(client_person)
    assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("path", "wrong", "right"),
    [
        ("/v1/chat/completions", "get", "POST"),
        ("/v1/completions", "delete", "POST"),
        ("/v1/models", "post", "GET"),
        ("/v1/models/starter", "put", "GET"),
    ],
)
def test_a_wrong_method_is_405_in_the_apis_shape(client, tuned, authorised, path, wrong, right):
    response = getattr(client, wrong)(path, **authorised)
    assert (response.status_code, response["Allow"]) == (405, right)
    assert response.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("raw", ["", "{", "[" * 100_000, '{"model": 1}', "\x00"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_broken_body_is_400_in_the_apis_shape(client, tuned, authorised, path, raw):
    response = client.post(path, raw, content_type="application/json", **authorised)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_body_over_the_limit_is_400(client, tuned, authorised):
    raw = json.dumps(body(pad="x" * 3_000_000))
    response = client.post(
        "/v1/chat/completions", raw, content_type="application/json", **authorised
    )
    assert response.status_code == 400
    assert "larger" in response.json()["error"]["message"] or "large" in str(response.json())


def test_an_unknown_model_is_404_and_without_a_worker_503(client, tuned, authorised):
    def ask(**changes):
        return client.post(
            "/v1/chat/completions",
            json.dumps(body(**changes)),
            content_type="application/json",
            **authorised,
        )

    assert ask(model="nobody").status_code == 404
    assert client.get("/v1/models/nobody", **authorised).status_code == 404
    assert client.get("/v1/nothing", **authorised).status_code == 404
    beat(ago=3600)
    assert ask().status_code == 503


def test_over_the_limit_it_is_429_with_a_time_to_wait(client, tuned, authorised, monkeypatch):
    monkeypatch.setattr("serving.services.completions.UNFINISHED_PER_PERSON", 0)
    response = client.post(
        "/v1/chat/completions", json.dumps(body()), content_type="application/json", **authorised
    )
    assert response.status_code == 429
    assert int(response["Retry-After"]) > 0


# ---- the reading API


def test_the_reading_api_shows_deployments_to_all_and_completions_to_their_payer(
    client, asked, tuned, client_person, stranger
):
    rows = client.get("/api/v1/deployments/").json()["results"]
    assert {row["name"] for row in rows} == {"starter", "builder-tuned"}
    assert client.get("/api/v1/deployments/builder-tuned/").json()["input_price"] == str(10**12)
    assert client.get("/api/v1/completions/").status_code in (401, 403)
    client.force_login(stranger)
    assert client.get("/api/v1/completions/").json()["count"] == 0
    assert client.get(f"/api/v1/completions/{asked.pk}/").status_code == 404
    client.force_login(client_person)
    assert client.get(f"/api/v1/completions/{asked.pk}/").json()["state"] == "HELD"
    assert client.post("/api/v1/completions/").status_code == 405
