"""An index of an earlier method is made anew for whoever is in charge of its model, once."""

import pytest
from django.urls import reverse

from accounts.models import AuditEvent
from attribution import workers
from attribution.influence.config import METHOD_VERSION
from attribution.models import Index

pytestmark = pytest.mark.django_db


@pytest.fixture
def old(indexed) -> Index:
    """As the version before left it."""
    row = Index.objects.get()
    row.manifest["header"]["version"] = METHOD_VERSION - 1
    row.save(update_fields=["manifest"])
    return row


def address(row: Index, name: str = "index_rebuild") -> str:
    return reverse(f"attribution:{name}", args=[row.model_id])


def test_the_owner_has_it_built_anew_and_receipts_keep_their_root(old, client):
    client.force_login(old.model.owner)
    assert "Build it anew" in client.get(address(old, "index_of")).content.decode()
    for _ in range(2):
        assert client.post(address(old)).status_code == 302
    old.refresh_from_db()
    assert old.state == "QUEUED"
    assert AuditEvent.objects.filter(verb="attribution.index_rebuild_requested").count() == 1
    workers.build_index(old.pk)
    old.refresh_from_db()
    assert (old.state, old.manifest["header"]["version"]) == ("READY", METHOD_VERSION)
    assert "Build it anew" not in client.get(address(old, "index_of")).content.decode()
    client.post(address(old))
    old.refresh_from_db()
    assert old.state == "READY"


def test_nobody_else_may(indexed, old, client):
    assert client.post(address(old)).status_code == 302  # to the login
    client.force_login(indexed.stranger)
    assert client.post(address(old)).status_code == 403
    assert client.get(address(old)).status_code == 405
    old.refresh_from_db()
    assert old.state == "READY"
