"""A run that kept checkpoints: its model's index and answers are averaged over them."""

import json

import numpy as np
import pytest
from django.urls import reverse

from accounts.blobs import put_file
from attribution import auditing, index_files, scorers, workers
from attribution.models import Index
from attribution.services.log import sequence
from attribution.tasks import record_withheld
from attribution.verification import verify_receipt
from datanets.services.moderation import withdraw_record
from modelfactory.models import Model, Run
from modelfactory.replays import write_replay
from modelfactory.services import publishing
from modelfactory.training import train
from tests.attribution.world import NOON, World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db, own_folders, tiny_folders, tmp_path, monkeypatch):
    """A model of a run that has really kept two states, as the worker concludes it."""
    scorers.clear()
    made = World(tiny_folders)
    recipe = {"cutoff": 64, "rank": 2, "batch_size": 4, "epochs": 1, "checkpoints": 2}
    Run.objects.update(recipe=recipe | {"learning_rate": 0.02})
    run = Run.objects.get()
    folder = tmp_path / "run"
    folder.mkdir()
    write_replay(run, folder)
    monkeypatch.setattr(train, "Stop", lambda: False)
    assert train.run(folder) == 0
    result = json.loads((folder / "result.json").read_text())
    result |= publishing._stored_checkpoints(folder, result)
    held_out = json.loads((folder / "split.json").read_text())["held_out"]
    Run.objects.update(result=result, held_out=held_out)
    blob = put_file(folder / "adapter" / "adapter_model.safetensors", "application/octet-stream")
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    Model.objects.update(adapter_sha256=blob.sha256, adapter_bytes=blob.size, adapter_config=config)
    made.model = Model.objects.select_related("run", "base_model").get()
    return made


def test_its_index_its_receipts_and_its_audit_are_over_both(world, client):
    index = world.build_index()
    assert index.state == "READY", index.failure_reason
    stated = index.manifest["header"]["checkpoints"]
    kept = Run.objects.get().result["checkpoints"]
    assert [one["adapter_sha256"] for one in stated] == [one["adapter_sha256"] for one in kept]
    assert sum(float(one["weight"]) for one in stated) == pytest.approx(1)
    assert publishing._checkpoints(Run.objects.get())["checkpoints"][0]["step"] == kept[0]["step"]

    receipt = world.receipt()
    assert receipt.public["method"]["parameters"]["checkpoints"] == 2
    assert verify_receipt(receipt).holds
    sequence(at=NOON)
    assert auditing.audit_index(index.pk).holds
    page = client.get(reverse("attribution:index", args=[index.root])).content.decode()
    assert "averaged over 2 states of the run" in page

    record = world.records[5]
    if str(record.pk) in Run.objects.get().held_out:
        record = world.records[6]
    before = index_files.open_index(index)
    withdraw_record(record=record, acting_user=record.contributor, at=NOON)
    record_withheld({"record_id": str(record.pk)})
    workers.build_index(index.pk)
    index = Index.objects.get()
    after = index_files.open_index(index)
    assert after.manifest.header["revises"] == before.manifest.root
    assert after.manifest.header["checkpoints"] == stated
    assert not np.array_equal(after.sums, before.sums)


def test_a_checkpoint_that_the_store_lost_fails_the_index_by_its_name(world, monkeypatch):
    def lost(model, folder):
        raise FileNotFoundError("blobs/ab/abcd")

    monkeypatch.setattr("attribution.averaging.materialise_checkpoints", lost)
    index = world.build_index()
    assert (index.state, "abcd" in index.failure_reason) == ("FAILED", True)
