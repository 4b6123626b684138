"""Servers are checked, registered by staff alone, and only where the house may call."""

from __future__ import annotations

import socket

import pytest
from django.utils import timezone

from accounts.models import AuditEvent
from serving.errors import BadAddress, ReplicaRefused
from serving.external import addresses, secrets, worker
from serving.models import Replica, ReplicaAdapter, ReplicaKind
from serving.services.replicas import change_replica, register_replica, remove_replica
from tests.serving.external.conftest import KEY

pytestmark = pytest.mark.django_db


def states() -> dict[str, str]:
    return dict(Replica.objects.values_list("name", "state"))


def test_a_check_finds_who_is_well_and_what_they_hold(deployed, order, servers, replicas):
    order[0].evict()
    servers[1].healthy = False
    worker.check_replicas()
    assert states() == {"one": "HEALTHY", "two": "FAILING"}
    replica = Replica.objects.get(name="one")
    assert replica.checked_at
    assert replica.answer_ms is not None
    if order[0] is servers[0]:
        assert not ReplicaAdapter.objects.exists()
    servers[1].healthy = True
    worker.check_replicas()
    assert states() == {"one": "HEALTHY", "two": "HEALTHY"}


def test_a_server_of_another_model_is_failing(replicas, servers):
    servers[0].base = "another-model"
    worker.check_replicas()
    replica = Replica.objects.get(name="one")
    assert replica.state == "FAILING"
    assert "does not serve 'starter-there'" in replica.state_reason


def test_one_that_was_switched_off_is_neither_asked_nor_checked(
    replicas, servers, deployed, ask, staff
):
    for replica in replicas:
        if replica.name == "two":
            change_replica(replica=replica, is_enabled=False, acting_user=staff, at=timezone.now())
    before = len(servers[1].calls)
    worker.check_replicas()
    assert ask(deployed).state == "SUCCEEDED"
    assert len(servers[1].calls) == before


def test_its_key_is_kept_sealed_and_is_in_no_audit_event(replicas, staff, settings):
    replica = replicas[0]
    assert KEY not in replica.sealed_key
    assert secrets.unseal(replica.sealed_key) == KEY
    assert KEY not in str(list(AuditEvent.objects.values_list("data", flat=True)))
    change_replica(
        replica=replica, is_enabled=True, key="new-key", acting_user=staff, at=timezone.now()
    )
    assert secrets.unseal(replica.sealed_key) == "new-key"
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new secret of this house"
    assert secrets.unseal(replica.sealed_key) == "new-key"
    settings.SECRET_KEY_FALLBACKS = []
    worker.check_replicas()
    replica.refresh_from_db()
    assert "Enter it again" in replica.state_reason


def test_nobody_but_staff_registers_changes_or_removes_one(base, replicas, builder):
    at = timezone.now()
    with pytest.raises(ReplicaRefused):
        register_replica(
            name="mine", base_model=base, kind=ReplicaKind.VLLM, base_url="http://127.0.0.1:1",
            served_name="x", acting_user=builder, at=at,
        )  # fmt: skip
    with pytest.raises(ReplicaRefused):
        change_replica(replica=replicas[0], is_enabled=False, acting_user=builder, at=at)
    with pytest.raises(ReplicaRefused):
        remove_replica(replica=replicas[0], acting_user=builder, at=at)


def test_a_name_is_given_once(add_replica, replicas, servers):
    with pytest.raises(ReplicaRefused, match="Choose another name"):
        add_replica(servers[0], "one")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host", "file:///etc/passwd", "host:8000", "http://user:secret@host", "http://",
        "http://host/?x=1", "http://host#x", "http://ho st", "http://host\\@other",
        "http://host:99999",
    ],
)  # fmt: skip
def test_an_address_is_a_plain_web_address(url):
    with pytest.raises(BadAddress):
        addresses.normalised(url)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("https://Models.Example.org/team/v1", "https://models.example.org/team"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_base_url_is_kept_without_its_version(url, kept):
    assert addresses.normalised(url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254", "https://169.254.169.254", "http://[fe80::1]",
        "http://0.0.0.0", "http://[::]", "http://224.0.0.1", "https://10.0.0.5",
        "https://192.168.1.1", "https://[fd00::1]", "http://[::ffff:169.254.169.254]",
        "https://[::ffff:10.0.0.5]", "http://93.184.215.14", "http://2130706433:1",
    ],
)  # fmt: skip
def test_the_house_calls_no_address_inside_that_is_not_named(settings, url):
    settings.EXTERNAL_ENGINE_NETWORKS = ["172.20.0.0/16"]
    with pytest.raises(BadAddress):
        addresses.target(addresses.normalised(url))


@pytest.mark.parametrize("url", ["https://93.184.215.14", "http://172.20.3.4:8000"])
def test_it_calls_the_internet_by_https_and_networks_that_are_named(settings, url):
    settings.EXTERNAL_ENGINE_NETWORKS = ["172.20.0.0/16"]
    assert addresses.target(url).host in url


def test_a_name_that_moves_inside_after_it_was_registered_is_not_called(
    replicas, servers, monkeypatch, settings
):
    settings.EXTERNAL_ENGINE_NETWORKS = ["127.0.0.0/8"]
    Replica.objects.filter(name="one").update(base_url="https://models.example.org")
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: inside)
    worker.check_replicas()
    replica = Replica.objects.get(name="one")
    assert replica.state == "FAILING"
    assert "no server has" in replica.state_reason
