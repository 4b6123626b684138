"""A large index is built in parts by many workers, and is the one that a single worker builds."""

import threading
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.urls import reverse
from django.utils import timezone

from accounts import leases, pages
from attribution import averaging, building, part_workers, scorers, workers
from attribution.influence import build as build_module
from attribution.influence.config import InfluenceConfig
from attribution.models import Index, IndexPart
from attribution.services import index_parts, indexes
from attribution.tasks import record_withheld
from datanets.services.moderation import withdraw_record
from tests.attribution.world import NOON, queued

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Five shards of five records; the world has 23 that train and one held out."""

    def config(model):
        return InfluenceConfig(fit_min=12, shard_records=5, batch_tokens=256)

    monkeypatch.setattr(averaging, "config_of", config)


@pytest.fixture
def spread(world, settings):
    """The index planned in three parts, none of them begun."""
    settings.INDEX_PART_RECORDS = 8
    return world.build_index()


def alone(world, settings) -> str:
    """The root that one worker comes to."""
    settings.INDEX_PART_RECORDS = 10_000
    other = world.another_model()
    index = indexes.request_index(model_id=other.pk, acting_user=None, at=NOON)
    workers.build_index(index.pk)
    index.refresh_from_db()
    assert index.state == "READY", index.failure_reason
    return index.root


def make_parts(index: Index) -> None:
    while index_parts.is_any_left(index.pk):
        part_workers.build_part(index.pk)


def states(index: Index) -> list[str]:
    return list(index.parts.values_list("state", flat=True))


def stored(index: Index) -> list[str]:
    try:
        return default_storage.listdir(f"builds/{index.pk}")[1]
    except FileNotFoundError:
        return []


def elsewhere(settings, tmp_path, name: str) -> None:
    """From here on the worker runs on another machine: only database and store are the same."""
    settings.DATA_DIR = tmp_path / name
    scorers.clear()
    part_workers._loaded.clear()


def test_parts_made_on_several_machines_give_the_root_of_one(
    spread, world, settings, tmp_path, django_capture_on_commit_callbacks
):
    assert (spread.state, states(spread)) == ("SPREAD", ["QUEUED"] * 3)
    assert queued("build_index_part") == [[str(spread.pk)]] * 3
    for number in range(3):
        elsewhere(settings, tmp_path, f"machine-{number}")
        part_workers.build_part(spread.pk)
    spread.refresh_from_db()
    assert (spread.state, states(spread)) == ("GATHERED", ["READY"] * 3)
    assert spread.done == spread.total == 23
    elsewhere(settings, tmp_path, "machine-3")
    assert stored(spread)
    with django_capture_on_commit_callbacks(execute=True):
        workers.build_index(spread.pk)
    spread.refresh_from_db()
    assert (spread.state, spread.failure_reason) == ("READY", "")
    assert workers.index_files.open_index(spread).committed_root() == spread.root
    assert (spread.plan, states(spread), stored(spread)) == ({}, [], [])
    assert spread.device == "cpu"
    assert spread.root == alone(world, settings)


def test_none_is_built_in_parts_where_parts_have_no_records(world, settings):
    settings.INDEX_PART_RECORDS = 0
    assert world.build_index().state == "READY"


def test_small_indexes_stay_with_one_worker(indexed):
    assert not IndexPart.objects.exists()
    assert queued("build_index_part") == []


def test_a_part_that_lost_its_worker_goes_on_after_its_last_shard(
    spread, settings, tmp_path, monkeypatch
):
    real, made = build_module.make_shard, []

    def dies_at_the_third(*args):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(build_module, "make_shard", dies_at_the_third)
    part_workers.build_part(spread.pk)  # of one shard alone
    with pytest.raises(KeyboardInterrupt):
        part_workers.build_part(spread.pk)
    monkeypatch.setattr(build_module, "make_shard", lambda *args: made.append(1) or real(*args))
    assert states(spread) == ["READY", "BUILDING", "QUEUED"]
    later = timezone.now() + settings.WORK_LEASE + timedelta(seconds=1)
    leases.sweep(at=later)
    assert states(spread) == ["READY", "QUEUED", "QUEUED"]
    elsewhere(settings, tmp_path, "another")
    made.clear()
    make_parts(spread)
    assert len(made) == 3  # of five; the second shard came from the store
    spread.refresh_from_db()
    assert spread.state == "GATHERED"


def test_a_part_has_one_worker_at_a_time(spread):
    taken = [index_parts.claim_next(index_id=spread.pk, owner=f"w{n}", at=NOON) for n in range(4)]
    assert [part and part.number for part in taken] == [0, 1, 2, None]
    first = taken[0]
    assert not index_parts.finish(part_id=first.pk, owner="w1", device="cpu", at=NOON)
    file = {"size": 1, "sha256": "0" * 64}
    keep = {"part_id": first.pk, "name": "shard-000000.npz", "file": file, "rows": 5, "at": NOON}
    assert not index_parts.keep_shard(owner="w1", **keep)
    assert index_parts.keep_shard(owner="w0", **keep)
    assert index_parts.keep_shard(owner="w0", **keep)  # told twice, counted once
    spread.refresh_from_db()
    assert spread.done == 5


def test_a_second_part_waits_its_turn_in_the_worker(spread):
    with building.building:
        part_workers.build_part(spread.pk)
    assert states(spread) == ["QUEUED"] * 3
    assert len(queued("build_index_part")) == 4


def test_a_part_whose_message_came_while_another_was_tidied_up_is_begun_at_once(spread):
    building.building.acquire()
    threading.Timer(building.HANDOVER / 5, building.building.release).start()
    part_workers.build_part(spread.pk)
    assert states(spread) == ["READY", "QUEUED", "QUEUED"]
    assert not building.building.locked()


def test_a_lost_message_is_sent_again_while_parts_wait(spread, settings):
    from accounts.models import OutboxMessage

    OutboxMessage.objects.all().delete()
    later = timezone.now() + settings.WORK_LEASE + timedelta(seconds=1)
    for _ in range(5):  # waiting is no attempt
        leases.sweep(at=later)
        later += settings.WORK_LEASE + timedelta(seconds=1)
    spread.refresh_from_db()
    assert spread.state == "SPREAD"
    assert queued("build_index_part") == [[str(spread.pk)]] * 5


def test_a_record_at_fault_is_named_and_the_rest_is_kept_for_another_try(spread, monkeypatch):
    from attribution.influence.errors import RecordError

    real = build_module.make_shard

    def fails_at_the_last(model, factors, selection, examples, *rest):
        if len(examples) == 3:
            raise RecordError(examples[0].record_id, "its gradient is not a finite number.")
        return real(model, factors, selection, examples, *rest)

    monkeypatch.setattr(build_module, "make_shard", fails_at_the_last)
    make_parts(spread)
    spread.refresh_from_db()
    assert spread.state == "FAILED"
    assert spread.failure_reason.endswith("its gradient is not a finite number.")
    assert spread.failure_reason.startswith("Record ")
    assert states(spread) == ["READY", "READY", "FAILED"]
    assert index_parts.claim_next(index_id=spread.pk, owner="late", at=NOON) is None

    monkeypatch.setattr(build_module, "make_shard", real)
    monkeypatch.setattr(build_module.curvature, "fit", None)  # nothing is fitted again
    indexes.request_index(model_id=spread.model_id, acting_user=None, at=NOON)
    workers.build_index(spread.pk)
    assert states(spread) == ["READY", "READY", "QUEUED"]
    make_parts(spread)
    workers.build_index(spread.pk)
    spread.refresh_from_db()
    assert spread.state == "READY"


def test_a_full_store_names_the_file(spread, monkeypatch, settings):
    settings.WORK_ATTEMPTS = 1

    class Full:
        open = default_storage.open

        def exists(self, name):
            return False

        def save(self, name, content):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(part_workers.part_files, "default_storage", Full())
    part_workers.build_part(spread.pk)
    spread.refresh_from_db()
    assert spread.state == "FAILED"
    assert "shard-000000.npz: it cannot be stored" in spread.failure_reason
    assert "No space left" in spread.failure_reason


def test_a_record_withdrawn_meanwhile_is_asked_again(spread, world):
    record = world.records[5]
    withdraw_record(record=record, acting_user=record.contributor, at=NOON)
    record_withheld({"record_id": str(record.pk)})
    assert queued("revise_indexes") == [[str(record.pk)]]


def test_the_page_of_the_index_shows_how_far_its_parts_are(client, spread, world):
    part_workers.build_part(spread.pk)
    address = reverse("attribution:index_of", args=[world.model.pk])
    text = client.get(address).content.decode()
    assert "SPREAD" in text
    assert "of 23 records" in text
    assert text.count("QUEUED") == 2
    card = client.get(address, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in card
    assert "delay:3s" in card
    assert client.post(address).status_code == 405
    assert pages.url("index_of_model", world.model.pk) == address  # the model's page asks it


def test_why_an_index_failed_is_for_its_owner_and_staff(client, spread, world):
    indexes.fail(spread.pk, "Record 7: it is empty.", NOON)
    address = reverse("attribution:index_of", args=[world.model.pk])
    assert "Record 7" not in client.get(address).content.decode()
    for user in (world.builder, world.staff):
        client.force_login(user)
        assert "Record 7" in client.get(address).content.decode()


def test_a_stranger_sees_no_index_of_a_model_that_is_not_published(client, spread, world):
    world.model.state = "DRAFT"
    world.model.save(update_fields=["state"])
    client.force_login(world.stranger)
    address = reverse("attribution:index_of", args=[world.model.pk])
    assert client.get(address).status_code == 404
