"""A builder deploys and stops by API, with a key, as on the page."""

from __future__ import annotations

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.api_keys import create_key
from accounts.models import User
from serving.models import Deployment

PATH = "/api/v1/deployments/"


def by_key(user: User) -> Client:
    _, secret = create_key(user=user, name="ci", acting_user=user, at=timezone.now())
    return Client(headers={"Authorization": f"Bearer {secret}"})


def post(client: Client, path: str, body: dict | None = None):
    return client.post(path, body or {}, content_type="application/json")


def test_a_model_is_deployed_and_stopped(make_model, live_worker, builder):
    client = by_key(builder)
    made = post(client, PATH, {"model": make_model().slug, "input_price": "7"})
    assert made.status_code == 201
    assert made.json()["state"] == "REQUESTED"
    assert made.json()["input_price"] == "7"
    stopped = post(client, f"{PATH}{made.json()['name']}/stop/")
    assert stopped.status_code == 200
    assert stopped.json()["state"] == "STOPPED"


def test_the_refusal_has_its_status_and_sentence(make_model, builder):
    refused = post(by_key(builder), PATH, {"model": make_model().slug})
    assert refused.status_code == 503
    assert "No live worker serves" in refused.json()["detail"]
    assert not Deployment.objects.exists()


def test_a_stranger_deploys_and_stops_nothing(make_model, live_worker, tuned, stranger):
    assert post(Client(), PATH, {"model": tuned.model.slug}).status_code in (401, 403)
    client = by_key(stranger)
    assert post(client, PATH, {"model": make_model("hidden").slug}).status_code in (400, 404)
    assert post(client, f"{PATH}{tuned.name}/stop/").status_code == 400
    tuned.refresh_from_db()
    assert tuned.state == "LIVE"


def test_bad_bodies_are_told_field_by_field(builder, live_worker):
    client = by_key(builder)
    assert "model" in post(client, PATH, {}).json()
    assert post(client, PATH, {"model": "nowhere"}).status_code == 404
    bad = post(client, PATH, {"model": "nowhere", "input_price": 1.5})
    assert "input_price" in bad.json()


def test_a_list_asks_as_often_for_many_as_for_one(tuned, base_alone, client, builder):
    client.force_login(builder)
    client.get(PATH)
    with CaptureQueriesContext(connection) as asked:
        assert len(client.get(PATH).json()["results"]) == 2
    assert not [one for one in asked if 'FROM "serving_retrievalindex"' in one["sql"]]
