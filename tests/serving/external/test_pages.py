"""Staff register servers, see how they are, and never see a key again."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from serving.external import secrets, worker
from serving.models import Replica
from tests.serving.external.conftest import KEY

pytestmark = pytest.mark.django_db
FORM = {
    "name": "gpu-1", "base_model": "starter", "kind": "VLLM", "base_url": "http://127.0.0.1:8000/v1",
    "served_name": "base-there", "key": KEY, "slots": 8, "max_adapters": 4,
}  # fmt: skip


def test_staff_register_one_and_see_its_state(client, staff, base):
    client.force_login(staff)
    assert "Register a vLLM" in client.get("/staff/replicas/").content.decode()
    answer = client.post("/staff/replicas/new/", FORM)
    assert answer.status_code == 302, answer.content.decode()
    made = Replica.objects.get()
    assert (made.base_url, secrets.unseal(made.sealed_key)) == ("http://127.0.0.1:8000", KEY)
    page = client.get("/staff/replicas/").content.decode()
    for words in ("gpu-1", "UNCHECKED", "kept sealed", "No worker asks these servers"):
        assert words in page


def test_they_see_what_it_holds_and_what_is_wrong(client, staff, deployed, order, servers):
    client.force_login(staff)
    servers[1].healthy = False
    worker.check_replicas()
    page = client.get("/staff/replicas/").content.decode()
    for words in ("HEALTHY", "FAILING", "503", deployed.name):
        assert words in page


@pytest.mark.parametrize("url", ["http://169.254.169.254", "https://10.1.2.3", "file:///etc"])
def test_an_address_that_is_not_called_is_told_at_the_form(client, staff, base, url):
    client.force_login(staff)
    answer = client.post("/staff/replicas/new/", FORM | {"base_url": url})
    assert answer.status_code == 200
    assert not Replica.objects.exists()
    assert KEY not in answer.content.decode()


def test_one_is_switched_off_given_another_key_and_removed(client, staff, replicas):
    client.force_login(staff)
    assert KEY not in client.get("/staff/replicas/one/").content.decode()
    client.post("/staff/replicas/one/", {"key": ""})
    one = Replica.objects.get(name="one")
    assert (one.is_enabled, secrets.unseal(one.sealed_key)) == (False, KEY)
    client.post("/staff/replicas/one/", {"is_enabled": "on", "key": "other"})
    one.refresh_from_db()
    assert (one.is_enabled, secrets.unseal(one.sealed_key)) == (True, "other")
    assert client.get("/staff/replicas/one/remove/").status_code == 405
    client.post("/staff/replicas/one/remove/")
    assert not Replica.objects.filter(name="one").exists()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("replicas", []), ("new_replica", []), ("replica", ["one"]), ("remove_replica", ["one"])],
)
def test_nobody_else_comes_near(client, client_person, replicas, name, arguments):
    address = reverse(f"serving:{name}", args=arguments)
    assert client.post(address).status_code == 302
    client.force_login(client_person)
    assert client.post(address, FORM).status_code in (403, 405)
    assert Replica.objects.filter(is_enabled=True, created_at__lte=timezone.now()).count() == 2
