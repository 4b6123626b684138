"""Two Celery workers build an index, one dies by kill -9 in the middle of a part."""

import os
import signal
import subprocess
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from accounts import leases, outbox
from attribution import averaging
from attribution.influence.config import InfluenceConfig
from attribution.models import Index
from attribution.services import indexes
from config.embedded.paths import REPOSITORY
from config.embedded.workers import worker
from tests.attribution.test_index_in_parts import alone, states
from tests.attribution.test_receipts_at_once import url_of_the_test_database

PATIENCE = 150  # seconds; a machine that others use as well is slow, not wrong


@pytest.fixture
def queue():
    """Of this test alone, at the broker that all tests share."""
    name = f"parts-{uuid4().hex}"
    yield name
    from config.celery import app

    with app.connection_for_write() as broker:
        broker.default_channel.client.delete(name)


@pytest.fixture
def start(tmp_path, queue):
    """Starts a worker; all are gone at the end."""
    processes = []

    def go(name, **told):
        command = [
            one.replace("config.celery:app", "tests.attribution.parts_worker:app")
            for one in worker(name, queue, pool="threads", slots=1)
        ]
        told = {"PARTS_JOURNAL": tmp_path / "journal", "PARTS_GATE": tmp_path / name} | told
        environment = os.environ | {
            "DATABASE_URL": url_of_the_test_database(),
            "DATA_DIR": str(tmp_path),
            "CHAIN_ENABLED": "0",
            "INDEX_PART_RECORDS": "8",
            "OMP_NUM_THREADS": "1",
            **{key: str(value) for key, value in told.items()},
        }
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log
            )
        processes.append(process)
        return process

    yield go
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.django_db(transaction=True)
def test_the_other_worker_comes_to_the_root_of_one(
    world, settings, monkeypatch, tmp_path, queue, start
):
    from config.celery import app

    def send(task, args, _, message):
        app.send_task(task, args, queue=queue, headers={"outbox_message": str(message)})

    def until(look):
        deadline = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < deadline, logs(tmp_path)
            assert second.poll() is None, logs(tmp_path)
            outbox.publish_due(send=send, at=timezone.now())
            time.sleep(0.05)

    small = InfluenceConfig(fit_min=12, shard_records=5, batch_tokens=256)
    monkeypatch.setattr(averaging, "config_of", lambda model: small)
    settings.INDEX_PART_RECORDS = 8
    index = indexes.request_index(model_id=world.model.pk, acting_user=None, at=timezone.now())
    # Its first part has one shard, its second two: it dies with one of them stored.
    first, second = start("first", PARTS_STOP=3), start("second")
    journal = tmp_path / "journal"
    (tmp_path / "first").touch()
    until(lambda: journal.exists() and f"{first.pid} hangs" in journal.read_text())
    assert states(index) == ["READY", "BUILDING", "QUEUED"]
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    made_by_first = journal.read_text().split("\n")[:2]

    (tmp_path / "second").touch()
    leases.sweep(at=timezone.now() + django_settings.WORK_LEASE + timedelta(seconds=1))
    until(lambda: Index.objects.get(pk=index.pk).state in ("READY", "FAILED"))
    index.refresh_from_db()
    assert index.state == "READY", index.failure_reason + logs(tmp_path)
    made = [line for line in journal.read_text().splitlines() if line.startswith(str(second.pid))]
    assert len(made_by_first) + len(made) == 5  # none of them twice
    second.kill()
    second.wait()
    assert index.root == alone(world, settings)


def logs(folder):
    return "\n".join(path.read_text()[-3000:] for path in folder.glob("*.log"))
