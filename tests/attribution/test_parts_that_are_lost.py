"""What the store, a worker or a withdrawal takes from a build in parts, and what comes of it."""

import io
import json
import os
import re
from datetime import timedelta
from functools import partial

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import leases
from attribution import averaging, index_files, part_files, part_workers, tidying, workers
from attribution.influence import build as build_module
from attribution.influence import parts
from attribution.influence.config import InfluenceConfig
from attribution.models import Index, IndexPart
from attribution.services import index_parts, indexes
from attribution.tasks import record_withheld
from datanets.services.moderation import withdraw_record
from tests.attribution.test_index_in_parts import alone, elsewhere, make_parts, states, stored
from tests.attribution.world import NOON, queued

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Five shards of five records; the world has 23 that train and one held out."""
    small = InfluenceConfig(fit_min=12, shard_records=5, batch_tokens=256)
    monkeypatch.setattr(averaging, "config_of", lambda model: small)


@pytest.fixture
def spread(world, settings):
    """The index planned in three parts, none of them begun."""
    settings.INDEX_PART_RECORDS = 8
    return world.build_index()


def damage(index, file, how):
    name = f"builds/{index.pk}/{file['sha256']}"
    if how == "altered":  # a byte, so that its size says nothing
        with default_storage.open(name) as stream:
            data = stream.read()
        default_storage.delete(name)
        default_storage.save(name, ContentFile(data[:-1] + bytes([data[-1] ^ 1])))
    else:
        default_storage.delete(name)


def go_on(index):
    """Plan, make and merge until nothing is left to do."""
    for _ in range(5):
        workers.build_index(index.pk)
        make_parts(index)
        index.refresh_from_db()
    return index


@pytest.mark.parametrize("how", ["altered", "lost"])
def test_a_shard_that_the_store_altered_or_lost_is_made_again(
    spread, world, settings, tmp_path, how
):
    make_parts(spread)
    damage(spread, next(iter(spread.parts.get(number=1).files.values())), how)
    elsewhere(settings, tmp_path, "another")
    workers.build_index(spread.pk)
    spread.refresh_from_db()
    assert (spread.state, states(spread)) == ("QUEUED", ["READY", "QUEUED", "READY"])
    assert spread.done == 23 - 5
    assert go_on(spread).state == "READY", spread.failure_reason
    assert spread.root == alone(world, settings)


def test_a_part_whose_shard_is_lost_makes_it_again_by_the_way(spread, settings, tmp_path):
    part = index_parts.claim_next(index_id=spread.pk, owner="dies", at=NOON)
    file = {"size": 3, "sha256": "0" * 64}
    shard = {"name": "shard-000000.npz", "file": file, "rows": 5}
    index_parts.keep_shard(part_id=part.pk, owner="dies", at=NOON, **shard)
    leases.sweep(at=timezone.now())
    make_parts(spread)
    spread.refresh_from_db()
    assert (spread.state, spread.done) == ("GATHERED", 23)


@pytest.mark.parametrize("name", ["plan.json", "factors.npz", "records-00001.npz"])
def test_a_file_of_the_plan_that_is_lost_is_stored_again(spread, settings, tmp_path, name):
    part_workers.build_part(spread.pk)
    damage(spread, spread.plan["files"][name], "altered")
    elsewhere(settings, tmp_path, "another")
    part_workers.build_part(spread.pk)
    spread.refresh_from_db()
    assert (spread.state, states(spread)) == ("QUEUED", ["READY", "QUEUED", "QUEUED"])
    assert go_on(spread).state == "READY", spread.failure_reason


def test_a_store_that_loses_all_is_told_in_the_end(spread):
    make_parts(spread)
    for _ in range(index_parts.MENDINGS + 1):
        spread.refresh_from_db()
        assert indexes.claim(index_id=spread.pk, owner="m", at=NOON) == "MERGING"
        lost = next(iter(spread.parts.get(number=1).files))
        told = {"owner": "m", "lost": [lost], "reason": f"{lost}: lost", "at": NOON}
        assert index_parts.plan_again(index_id=spread.pk, **told)
        workers.build_index(spread.pk)
        make_parts(spread)
    spread.refresh_from_db()
    assert (spread.state, spread.failure_reason) == ("FAILED", f"{lost}: lost")


def test_two_who_fetch_the_same_file_do_not_disturb_each_other(spread, tmp_path, monkeypatch):
    file = spread.plan["files"]["factors.npz"]
    fetch = partial(part_files.fetch, spread.pk, "factors.npz", file, tmp_path)
    copy = part_files.shutil.copyfileobj

    def another_comes_first(stored, out, size):
        monkeypatch.setattr(part_files.shutil, "copyfileobj", copy)
        fetch()
        copy(stored, out, size)

    monkeypatch.setattr(part_files.shutil, "copyfileobj", another_comes_first)
    assert part_files.stated(fetch()) == file
    assert [path.name for path in tmp_path.glob("*factors*")] == ["factors.npz"]


def test_the_fit_that_parts_are_made_with_is_taken_up_on_another_machine(
    spread, settings, tmp_path, monkeypatch
):
    part_workers.build_part(spread.pk)
    indexes.fail(spread.pk, "The worker failed.", NOON)
    indexes.request_index(model_id=spread.model_id, acting_user=None, at=NOON)
    elsewhere(settings, tmp_path, "another")
    monkeypatch.setattr(build_module.curvature, "fit", None)
    workers.build_index(spread.pk)
    assert states(spread) == ["READY", "QUEUED", "QUEUED"]


def test_parts_of_a_fit_that_is_lost_are_not_used_with_another(
    spread, settings, tmp_path, monkeypatch, django_capture_on_commit_callbacks
):
    part_workers.build_part(spread.pk)
    damage(spread, spread.plan["files"]["factors.npz"], "lost")
    shard = next(iter(spread.parts.get(number=0).files.values()))["sha256"]
    indexes.fail(spread.pk, "The worker failed.", NOON)
    indexes.request_index(model_id=spread.model_id, acting_user=None, at=NOON)
    elsewhere(settings, tmp_path, "another")
    fit = build_module.curvature.fit

    def rounded_otherwise(*args):
        factors = fit(*args)
        factors.inverse_roots[0].mul_(1 + 1e-6)
        return factors

    monkeypatch.setattr(build_module.curvature, "fit", rounded_otherwise)
    with django_capture_on_commit_callbacks(execute=True):
        workers.build_index(spread.pk)
    assert states(spread) == ["QUEUED"] * 3
    assert shard not in stored(spread)
    assert go_on(spread).state == "READY", spread.failure_reason


def test_a_lost_merger_is_followed_by_another(spread, settings, monkeypatch):
    make_parts(spread)
    for _ in range(2):
        assert indexes.claim(index_id=spread.pk, owner="dies", at=timezone.now()) == "MERGING"
        leases.sweep(at=timezone.now() + settings.WORK_LEASE + timedelta(seconds=1))
        spread.refresh_from_db()
        assert (spread.state, states(spread)) == ("GATHERED", ["READY"] * 3)
    monkeypatch.setattr(workers, "examples_of", None)  # nothing begins again
    workers.build_index(spread.pk)
    spread.refresh_from_db()
    assert spread.state == "READY", spread.failure_reason


def test_records_go_with_their_part_from_store_and_machine(
    spread, settings, django_capture_on_commit_callbacks
):
    assert not list(settings.DATA_DIR.rglob("builds/*/work/*/records-*"))
    with django_capture_on_commit_callbacks(execute=True):
        part_workers.build_part(spread.pk)
    left = stored(spread)
    files = spread.plan["files"]
    assert files["records-00000.npz"]["sha256"] not in left
    assert files["records-00001.npz"]["sha256"] in left
    assert not list(settings.DATA_DIR.rglob("builds/*/work/*/records-*"))
    assert not list(settings.DATA_DIR.rglob("builds/*/work/*/shard-*"))


def test_the_plan_of_a_failed_index_goes_with_a_record_that_is_withdrawn(
    spread, world, settings, django_capture_on_commit_callbacks
):
    part_workers.build_part(spread.pk)
    indexes.fail(spread.pk, "The worker failed.", NOON)
    record = world.records[5]
    withdraw_record(record=record, acting_user=record.contributor, at=NOON)
    assert stored(spread)
    with django_capture_on_commit_callbacks(execute=True):
        indexes.request_revisions(record_id=record.pk, at=NOON)
    spread.refresh_from_db()
    assert (spread.plan, states(spread), stored(spread)) == ({}, [], [])
    folder = settings.DATA_DIR / "builds" / str(spread.model_id)
    assert list(folder.rglob("plan.json"))
    tidying.tidy_machine(at=timezone.now())  # somebody may be at work
    assert folder.exists()
    tidying.tidy_machine(at=timezone.now() + timedelta(hours=2))
    assert not folder.exists()


def test_a_worker_that_cannot_tidy_says_so_of_the_index_and_goes_on(world, monkeypatch):
    def broken(*, at):
        raise PermissionError("builds is somebody else's")

    monkeypatch.setattr(workers, "tidy_machine", broken)
    index = world.build_index()
    assert (index.state, index.failure_reason) == ("FAILED", "builds is somebody else's")
    assert index.lease_owner == ""


def test_what_nobody_goes_on_with_is_tidied_out_of_the_store(spread):
    default_storage.save(f"builds/{spread.pk}/{'0' * 64}", io.BytesIO(b"of a killed worker"))
    tidying.tidy_store()
    assert "0" * 64 in stored(spread)  # its row may come in a moment
    indexes.fail(spread.pk, "The worker failed.", NOON)
    tidying.tidy_store()
    assert set(stored(spread)) == {file["sha256"] for file in spread.plan["files"].values()}


def test_a_part_is_not_made_before_all_its_records_are(spread):
    part = spread.parts.first()
    with pytest.raises(IntegrityError, match="index_part_ready_when_done"), transaction.atomic():
        IndexPart.objects.filter(pk=part.pk).update(state="READY")


def locks(queries):
    """Which of both tables a statement locks rows of, in order."""
    locking = re.compile(r'^UPDATE "(\w+)"|FROM "(\w+)".* FOR UPDATE', re.DOTALL)
    found = [locking.search(query["sql"]) for query in queries]
    tables = [match[1] or match[2] for match in found if match]
    return [name.removeprefix("attribution_") for name in tables if "_index" in name]


def test_the_index_is_locked_before_its_parts_by_all(spread):
    def first():
        return index_parts.claim_next(index_id=spread.pk, owner="w", at=NOON)

    file = {"size": 1, "sha256": "0" * 64}
    part = first()
    at = {"part_id": part.pk, "owner": "w", "at": NOON}
    verbs = [
        partial(index_parts.keep_shard, name="a", file=file, rows=part.total, **at),
        partial(index_parts.finish, device="cpu", seconds=2, **at),
        lambda: index_parts.fail(first().pk, "It is empty.", NOON, "w"),
        lambda: indexes.fail(spread.pk, "It is empty.", NOON),
    ]
    for verb in verbs:
        with CaptureQueriesContext(connection) as queries:
            verb()
        order = [name for name in locks(queries) if name in ("index", "indexpart")]
        if order[0] == "indexpart":  # the claim, a statement and transaction of its own
            order = order[1:]
        assert order[0] == "index", verb
    assert states(spread)[0] == "READY"


def test_the_sweeper_which_holds_parts_asks_for_no_index(
    spread, settings, django_capture_on_commit_callbacks
):
    part = index_parts.claim_next(index_id=spread.pk, owner="w", at=NOON)
    for verb in (index_parts.requeue, index_parts.give_up):
        IndexPart.objects.filter(pk=part.pk).update(state="BUILDING", lease_owner="w")
        with (
            django_capture_on_commit_callbacks() as later,
            CaptureQueriesContext(connection) as queries,
        ):
            verb(part.pk, NOON) if verb is index_parts.requeue else verb(part.pk, "Died.", NOON)
        assert "index" not in locks(queries)
    assert len(later) == 1
    indexes.requeue(spread.pk, NOON)  # and where the process died before that
    spread.refresh_from_db()
    assert (spread.state, spread.failure_reason) == ("FAILED", "Died.")


def test_seconds_of_all_workers_are_added_up(spread):
    make_parts(spread)
    IndexPart.objects.filter(index=spread).update(seconds=1000)
    workers.build_index(spread.pk)
    spread.refresh_from_db()
    assert 3000 < spread.seconds < 4000


def test_a_model_that_no_part_needs_is_let_go_of(spread):
    part_workers.build_part(spread.pk)
    assert part_workers._loaded._models
    part_workers._loaded._timer.function()
    assert not part_workers._loaded._models
    make_parts(spread)
    assert not part_workers._loaded._models


def test_process_ids_do_not_tell_writers_apart(tmp_path, monkeypatch):
    from attribution.influence.files import whole

    monkeypatch.setattr(os, "getpid", lambda: 7)  # as in two containers
    with whole(tmp_path / "a.npz") as one, whole(tmp_path / "a.npz") as other:
        one.write_bytes(b"1")
        other.write_bytes(b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_worker_whose_disk_is_full_leaves_its_part_to_another(spread, monkeypatch):
    """As often as where workers die; then the build is given up with the reason."""

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(part_workers, "make_part", full)
        part_workers.build_part(spread.pk)
        part = spread.parts.get(number=0)
        assert (part.state, part.attempts, part.lease_owner) == ("QUEUED", 1, "")
    assert go_on(spread).state == "READY", spread.failure_reason


def test_a_worker_that_fails_again_and_again_tells_why(spread, monkeypatch, settings):
    settings.WORK_ATTEMPTS = 2

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(part_workers, "make_part", full)
    for _ in range(2):
        part_workers.build_part(spread.pk)
    spread.refresh_from_db()
    assert spread.state == "FAILED"
    assert "No space left" in spread.failure_reason


def test_a_plan_of_an_earlier_method_is_planned_again(spread, monkeypatch):
    monkeypatch.setattr(parts, "METHOD_VERSION", parts.METHOD_VERSION + 1)
    part_workers.build_part(spread.pk)
    spread.refresh_from_db()
    assert (spread.state, spread.plan["mended"]) == ("QUEUED", 1)


def test_a_withdrawal_reaches_an_index_that_waits_to_be_planned_again(spread, world):
    Index.objects.filter(pk=spread.pk).update(state="QUEUED")
    record = world.records[5]
    withdraw_record(record=record, acting_user=record.contributor, at=NOON)
    record_withheld({"record_id": str(record.pk)})
    assert queued("revise_indexes") == [[str(record.pk)]]


def test_a_shard_that_was_bad_when_it_was_hashed_is_made_again(spread, world, settings):
    """Another has put its own in its place before it was stored: at each try it fits its hash."""
    make_parts(spread)
    part = spread.parts.get(number=1)
    name, file = next(iter(part.files.items()))
    work = next(iter(index_files.build_folder(spread).glob("work/*")))
    (work / name).write_bytes(b"of another build")
    bad = part_files.put(spread.pk, work / name)
    part.files[name] = {**bad, "rows": file["rows"]}
    part.save(update_fields=["files"])
    workers.build_index(spread.pk)
    spread.refresh_from_db()
    assert (spread.state, states(spread)) == ("QUEUED", ["READY", "QUEUED", "READY"])
    assert bad["sha256"] not in stored(spread)
    assert go_on(spread).state == "READY", spread.failure_reason
    assert spread.root == alone(world, settings)


def test_a_shard_that_is_made_again_is_counted_once_by_its_new_hash(spread):
    part = index_parts.claim_next(index_id=spread.pk, owner="me", at=NOON)
    for digit in "01":
        file = {"size": 3, "sha256": digit * 64}
        told = {"name": "shard-000000.npz", "file": file, "rows": 5, "at": NOON}
        assert index_parts.keep_shard(part_id=part.pk, owner="me", **told)
    part.refresh_from_db()
    spread.refresh_from_db()
    assert (part.done, spread.done, part.files["shard-000000.npz"]["sha256"]) == (5, 5, "1" * 64)


def test_a_merge_that_fails_leaves_no_files_of_its_own(spread, monkeypatch):
    make_parts(spread)
    with monkeypatch.context() as patch:
        patch.setattr(workers.index_files, "store", full_disk)
        workers.build_index(spread.pk)
    folder = index_files.build_folder(spread)
    spread.refresh_from_db()
    assert spread.state == "FAILED"
    assert [*folder.glob("whole-*"), *folder.glob("*/rows-*")] == []
    with monkeypatch.context() as patch:
        indexes.request_index(model_id=spread.model_id, acting_user=None, at=NOON)
        patch.setattr(build_module, "null_of", full_disk)
        go_on(spread)
    assert spread.state == "FAILED"
    assert [*folder.glob("whole-*"), *folder.glob("*/rows-*")] == []


def full_disk(*_, **__):
    raise OSError("No space left on device")


def test_a_store_that_is_away_keeps_nobody_from_going_on(
    spread, monkeypatch, django_capture_on_commit_callbacks, caplog
):
    """What follows the end of a transaction is done, and what failed stands in the log."""
    done = []
    make_parts(spread)
    monkeypatch.setattr(part_files, "forget", full_disk)
    with django_capture_on_commit_callbacks(execute=True):
        workers.build_index(spread.pk)
        transaction.on_commit(partial(done.append, "next"))
    spread.refresh_from_db()
    assert (spread.state, done) == ("READY", ["next"])
    assert "No space left on device" in caplog.text


def test_a_part_is_done_though_its_records_cannot_be_deleted(
    spread, monkeypatch, django_capture_on_commit_callbacks
):
    monkeypatch.setattr(part_files, "drop", full_disk)
    with django_capture_on_commit_callbacks(execute=True):
        part_workers.build_part(spread.pk)
    assert states(spread) == ["READY", "QUEUED", "QUEUED"]


def test_devices_that_begin_alike_stay_apart(spread):
    names = [f"accelerator of the same long name {n}" for n in range(3)]
    for part, name in zip(spread.parts.all(), names, strict=True):
        IndexPart.objects.filter(pk=part.pk).update(device=name)
    told, _ = indexes._of_all(spread, "cpu", 0.0)
    assert told == "cpu and 3 more"
    IndexPart.objects.filter(index=spread).update(device="cuda")
    assert indexes._of_all(spread, "cpu", 0.0)[0] == "cpu, cuda"
    for part, name in zip(spread.parts.all(), ["cuda:0", "cuda:1", names[0]], strict=True):
        IndexPart.objects.filter(pk=part.pk).update(device=name)
    assert indexes._of_all(spread, "cpu", 0.0)[0] == "cpu, cuda:0, cuda:1 and 1 more"


def test_a_build_goes_on_though_the_machine_cannot_be_tidied(world, settings, monkeypatch):
    settings.INDEX_PART_RECORDS = 0
    index = indexes.request_index(model_id=world.model.pk, acting_user=None, at=NOON)
    index_files.build_folder(index).mkdir(parents=True)

    def unexpected(*_):
        raise RuntimeError("an odd folder")

    monkeypatch.setattr(tidying, "_tidy", unexpected)
    workers.build_index(index.pk)
    index.refresh_from_db()
    assert index.state == "READY", index.failure_reason


def test_what_fails_after_the_claim_ends_with_a_reason(world, monkeypatch):
    """Whatever is raised once it is claimed ends the work with a reason, not with a lost worker."""
    index = indexes.request_index(model_id=world.model.pk, acting_user=None, at=NOON)
    monkeypatch.setattr(workers, "tidy_machine", full_disk)
    workers.build_index(index.pk)
    index.refresh_from_db()
    assert (index.state, index.lease_owner) == ("FAILED", "")
    assert "No space left" in index.failure_reason


def test_the_version_before_asks_for_an_index_while_this_one_is_rolled_out(world):
    """Its statement knows no plan."""
    made = indexes.request_index(model_id=world.model.pk, acting_user=None, at=NOON)
    known = [one.column for one in Index._meta.concrete_fields if one.column != "plan"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT {} FROM attribution_index".format(", ".join(known)))
        row = cursor.fetchone()
        made.delete()
        cursor.execute(
            "INSERT INTO attribution_index ({}) VALUES ({})".format(
                ", ".join(known), ", ".join(["%s"] * len(known))
            ),
            [json.dumps(value) if isinstance(value, dict) else value for value in row],
        )
    assert Index.objects.get().plan == {}
