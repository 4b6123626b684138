"""Pinning by API: priced, asked for, seen and ended by who pays, and by nobody else."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from accounts.api_keys import create_key
from accounts.ids import uuid7
from accounts.models import IdempotentRequest, OutboxMessage, Scope, User
from ledger.models import Account, Hold
from modelfactory.models import Model
from serving.models import Pin
from serving.services import pins
from tests.ledger.books import OPEN, balance_of

pytestmark = pytest.mark.django_db
PATH = "/api/v1/pins/"


def by_key(user: User, *scopes: Scope) -> Client:
    _, secret = create_key(
        user=user, name="ci", acting_user=user, at=timezone.now(), scopes=scopes or tuple(Scope)
    )
    return Client(headers={"Authorization": f"Bearer {secret}"})


def post(client: Client, path: str, key: str = "", **body):
    """Each a request of its own, unless `key` says that it is one sent before."""
    headers = {"Idempotency-Key": key or str(uuid7())}
    return client.post(path, body, content_type="application/json", headers=headers)


def test_a_pin_is_priced_held_listed_and_taken_back(tuned, client_person):
    client = by_key(client_person)
    asked = {"deployment": tuned.name, "days": 7}
    priced = post(client, f"{PATH}quote/", **asked).json()
    assert (priced["mib"], priced["fee"]) == (1, str(7 * 10**15))
    assert not Pin.objects.exists()
    made = post(client, PATH, key="once", **asked)
    assert made.status_code == 201
    sent_again = post(client, PATH, key="once", **asked)
    assert (sent_again.status_code, sent_again.json()) == (201, made.json())
    assert (made.json()["state"], made.json()["fee"]) == ("REQUESTED", priced["fee"])
    assert client.get(PATH).json()["results"] == [made.json()]
    address = f"{PATH}{made.json()['id']}/"
    assert client.get(address).json() == made.json()
    again = post(client, PATH, **asked)
    assert (again.status_code, "pinned already" in again.json()["detail"]) == (400, True)
    ended = post(client, f"{address}end/")
    assert (ended.status_code, ended.json()["state"]) == (200, "FAILED")
    assert Hold.objects.get().state == "RELEASED"
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN
    assert post(client, f"{address}end/").status_code == 400


def test_a_request_whose_process_died_is_taken_up_and_pays_once(tuned, client_person):
    client = by_key(client_person)
    asked = {"deployment": tuned.name, "days": 1}
    made = post(client, PATH, key="once", **asked).json()
    IdempotentRequest.objects.all().delete()  # as if its answer had not been written
    assert post(client, PATH, key="once", **asked).json() == made
    pins.note_pinned(pin_id=made["id"], at=timezone.now())
    post(client, f"{PATH}{made['id']}/end/")
    IdempotentRequest.objects.all().delete()
    assert post(client, PATH, key="once", **asked).json()["id"] == made["id"]
    assert (Pin.objects.count(), Hold.objects.count()) == (1, 1)
    assert post(client, PATH, key="another", **asked).json()["id"] != made["id"]


def test_what_is_charged_ends_at_once_and_is_not_given_back(tuned, client_person):
    client = by_key(client_person)
    made = post(client, PATH, deployment=tuned.name, days=1).json()
    pins.note_pinned(pin_id=made["id"], at=timezone.now())
    before = OutboxMessage.objects.filter(task="serving.tasks.pin").count()
    ended = post(client, f"{PATH}{made['id']}/end/").json()
    assert ended["state"] == "ENDED"
    assert ended["entry_id"]
    assert not Pin.objects.in_force(timezone.now()).exists()
    assert OutboxMessage.objects.filter(task="serving.tasks.pin").count() == before + 1
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - 10**15


def test_a_stranger_sees_and_ends_nobody_elses(tuned, client_person, stranger, staff):
    made = post(by_key(client_person), PATH, deployment=tuned.name, days=1).json()
    address = f"{PATH}{made['id']}/"
    for visitor, refused in ((Client(), 403), (by_key(stranger), 404)):
        assert visitor.get(address).status_code == refused
        assert post(visitor, f"{address}end/").status_code == refused
    assert Client().get(PATH).status_code == 403
    assert by_key(stranger).get(PATH).json()["results"] == []
    assert Pin.objects.get().state == "REQUESTED"
    assert by_key(staff).get(PATH).json()["results"] == [made]
    assert post(by_key(staff), f"{address}end/").status_code == 200


def test_what_is_not_there_too_long_or_without_money_is_told(tuned, base_alone, stranger, builder):
    client = by_key(stranger)
    assert post(client, PATH, deployment="nowhere", days=1).status_code == 404
    assert "days" in post(client, PATH, deployment=tuned.name, days=31).json()
    assert "deployment" in post(client, PATH, days=1).json()
    assert post(client, PATH, deployment=base_alone.name, days=1).status_code == 400
    assert post(client, PATH, deployment=tuned.name, days=1).status_code == 402
    assert client.delete(PATH).status_code == 405
    body = {"deployment": tuned.name, "days": 1}
    unnamed = client.post(PATH, body, content_type="application/json")
    assert unnamed.json()["code"] == "idempotency_key_required"
    Model.objects.update(state="DRAFT")
    assert post(client, PATH, deployment=tuned.name, days=1).status_code == 404
    for scope in (Scope.READ, Scope.WRITE):
        refused = post(by_key(builder, scope), PATH, deployment=tuned.name, days=1)
        assert (refused.status_code, "MONEY" in refused.json()["detail"].upper()) == (403, True)
    assert not Pin.objects.exists()
