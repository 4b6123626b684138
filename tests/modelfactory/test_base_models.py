"""Base models: staff ask, a worker fetches and checks, a bad one says why."""

import json
import shutil

import pytest
from django.core.exceptions import PermissionDenied

from accounts.models import Notification, OutboxMessage
from modelfactory import basejobs
from modelfactory.errors import BaseModelError
from modelfactory.models import BaseModel
from modelfactory.services import bases
from modelfactory.training.bases import BaseFolderError
from tests.modelfactory.world import NOW, STARTER, starter


def register(staff, origin, source="FOLDER"):
    return bases.register_base(origin=str(origin), source=source, acting_user=staff, at=NOW)


def check(base):
    assert basejobs.check(base.pk)
    base.refresh_from_db()
    return base


def test_the_starter_is_registered_once_and_renewed(db):
    first, second = starter(), starter()
    assert first.pk == second.pk
    assert (second.slug, second.state) == ("starter", "READY")
    assert second.path == STARTER


def test_a_folder_that_loads_becomes_ready(staff, tiny_base):
    base = register(staff, tiny_base)
    assert OutboxMessage.objects.get(queue="train").args == [str(base.pk)]
    check(base)
    assert (base.state, base.context_length) == ("READY", 128)
    assert len(base.weights_sha256) == 64


def test_a_folder_that_does_not_load_fails_with_the_reason(staff, tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "no-such-thing"}
    (folder / "config.json").write_text(json.dumps(config))
    base = check(register(staff, folder))
    assert base.state == "FAILED"
    assert "transformers cannot load it" in base.failure_reason
    assert Notification.objects.filter(user=staff, body=base.failure_reason).exists()
    bases.check_again(base=base, acting_user=staff, at=NOW)
    base.refresh_from_db()
    assert base.state == "REQUESTED"


@pytest.mark.parametrize("loads", [True, False])
def test_a_worker_that_lost_the_lease_leaves_the_base_to_the_other(
    staff, tiny_base, monkeypatch, loads
):
    base = register(staff, tiny_base)

    def stall(folder):
        BaseModel.objects.filter(pk=base.pk).update(lease_owner="worker-2")
        if not loads:
            raise BaseFolderError("It does not load here.")

    monkeypatch.setattr(basejobs, "load", stall)
    check(base)
    assert (base.state, base.lease_owner) == ("CHECKING", "worker-2")
    assert (base.folder, base.failure_reason) == ("", "")
    assert not Notification.objects.filter(user=staff).exists()


def test_a_hub_that_cannot_be_reached_says_so(staff, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    base = check(register(staff, "nobody/nothing", "HUB"))
    assert base.state == "FAILED"
    assert "hub could not be reached" in base.failure_reason


@pytest.mark.parametrize(
    ("origin", "source"), [("relative/path", "FOLDER"), ("no-owner", "HUB"), ("a/b c", "HUB")]
)
def test_a_strange_origin_is_refused(staff, origin, source):
    with pytest.raises(BaseModelError) as caught:
        register(staff, origin, source)
    assert caught.value.code == "ORIGIN"


def test_a_name_is_taken_once(staff, tiny_base):
    register(staff, tiny_base)
    with pytest.raises(BaseModelError, match="another name"):
        register(staff, tiny_base)


def test_only_staff_register(builder, tiny_base):
    with pytest.raises(PermissionDenied):
        register(builder, tiny_base)
    assert not BaseModel.objects.exists()
