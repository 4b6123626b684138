"""A worker's run, with the real training in a real child process."""

import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from django.db import OperationalError, connection

from accounts import leases
from accounts.models import Notification, OutboxMessage
from attribution.translog import canonical
from datanets.models import Record, VersionRecord
from modelfactory import jobs, selectors, signing, workers
from modelfactory.models import Model, Run, RunEvent
from modelfactory.services import drafts, runs
from tests.modelfactory import world

pytestmark = pytest.mark.django_db(transaction=True)


def now():
    return datetime.now(UTC)


def queue(run, user):
    return runs.start_run(run=run, acting_user=user, at=now())


def execute(run):
    assert jobs.execute(run.pk, device="cpu", dtype="float32")
    run.refresh_from_db()
    return run


@pytest.fixture
def long_draft(draft, builder):
    """A run of minutes, to be interrupted."""
    recipe = world.SMALL | {"epochs": 20, "batch_size": 1}
    drafts.set_recipe(run=draft, recipe=recipe, acting_user=builder)
    return draft


@pytest.fixture
def in_background():
    """Execute in a thread; yields the starter, joins at the end."""
    threads = []

    def start(run):
        def work():
            try:
                jobs.execute(run.pk, device="cpu", dtype="float32")
            finally:
                connection.close()

        thread = threading.Thread(target=work)
        thread.start()
        threads.append(thread)
        return thread

    yield start
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def wait_until(true, seconds=120):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def has_progress(run):
    return RunEvent.objects.filter(run=run, kind="PROGRESS").exists()


def child_pid():
    """The training process that this process started."""
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            line = (entry / "cmdline").read_text()
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid() and "modelfactory.training" in line:
            return int(entry.name)
    return None


def test_it_makes_a_model_from_the_records(draft, builder, version, monkeypatch):
    from accounts import events

    monkeypatch.setitem(
        events._subscribers, "modelfactory.model_created", [("somewhere.task", "attribute")]
    )
    withdrawn = version.entries.last().record
    run = queue(draft, builder)
    Record.objects.filter(pk=withdrawn.pk).update(state="WITHDRAWN")
    run = execute(run)
    assert (run.state, run.failure_reason) == (Run.State.SUCCEEDED, "")
    assert (run.device, run.dtype) == ("cpu", "float32")
    assert run.step == run.steps > 0

    model = run.model
    assert model.slug == f"{builder.handle}-colours"
    assert model.evaluation["loss_after"] < model.evaluation["loss_before"]
    assert signing.verify(model.manifest)
    body = canonical.dumps(model.manifest["manifest"])
    assert model.manifest_sha256 == sha256(body).hexdigest()
    message = OutboxMessage.objects.get(task="somewhere.task")
    assert message.args == [{"model_id": str(model.pk)}]
    assert Notification.objects.filter(user=builder, url=model.get_absolute_url()).exists()

    trained = list(selectors.training_records(model.pk))
    held_out = set(run.held_out)
    everything = {str(pk) for pk in version.entries.values_list("record_id", flat=True)}
    assert {str(r.record_id) for r in trained} == everything - held_out - {str(withdrawn.pk)}
    assert len(held_out) == 4
    record_id, contributor_id, datanet_id, content_hash, payload = trained[0]
    record = Record.objects.get(pk=record_id)
    assert (contributor_id, datanet_id) == (record.contributor_id, record.datanet_id)
    assert content_hash == canonical.sha256(payload)
    assert selectors.curve(run)["evaluation"][0][1] == model.evaluation["loss_before"]


def test_its_adapter_goes_out_as_peft_reads_it(draft, builder, tiny_base, tmp_path, as_user):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = execute(queue(draft, builder)).model
    folder = workers.materialise_adapter(model.pk, tmp_path / "adapter")
    response = as_user(builder).get(f"/models/{model.slug}/adapter.zip")
    with ZipFile(BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    x = torch.tensor([[1, 5, 9, 7]])
    logits = [
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), place)(x).logits
        for place in (folder, tmp_path / model.slug)
    ]
    assert torch.equal(*logits)
    plain = AutoModelForCausalLM.from_pretrained(tiny_base)(x).logits
    assert not torch.equal(plain, logits[0])


def test_a_cancelled_run_stops_and_goes_on_when_it_is_started_again(
    long_draft, builder, in_background
):
    run = queue(long_draft, builder)
    thread = in_background(run)
    wait_until(lambda: has_progress(run))
    runs.cancel_run(run=run, acting_user=builder, at=now())
    thread.join(60)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED
    assert RunEvent.objects.filter(run=run, kind="STOPPED").exists()
    assert not Model.objects.exists()

    run = execute(runs.restart_run(run=run, acting_user=builder, at=now()))
    assert run.state == Run.State.SUCCEEDED
    assert RunEvent.objects.filter(run=run, kind="RESUMED").exists()
    sequences = list(RunEvent.objects.filter(run=run).values_list("sequence", flat=True))
    assert sequences == list(range(1, len(sequences) + 1))


def test_a_training_process_that_is_killed_is_tried_again(long_draft, builder, in_background):
    run = queue(long_draft, builder)
    thread = in_background(run)
    wait_until(lambda: has_progress(run))
    os.kill(child_pid(), signal.SIGKILL)
    thread.join(30)
    run.refresh_from_db()
    assert run.state == Run.State.QUEUED
    assert run.attempts == 1
    assert OutboxMessage.objects.filter(queue="train").count() == 2


def test_the_third_death_fails_the_run_with_the_reason(long_draft, builder, in_background):
    run = queue(long_draft, builder)
    Run.objects.filter(pk=run.pk).update(attempts=2)
    thread = in_background(run)
    wait_until(lambda: has_progress(run))
    os.kill(child_pid(), signal.SIGKILL)
    thread.join(30)
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert "SIGKILL" in run.failure_reason


def test_a_worker_that_is_told_to_stop_gives_the_run_back(
    long_draft, builder, in_background, monkeypatch
):
    monkeypatch.setattr(jobs, "stopping", threading.Event())
    run = queue(long_draft, builder)
    thread = in_background(run)
    wait_until(lambda: has_progress(run))
    jobs.stopping.set()
    thread.join(60)
    run.refresh_from_db()
    assert (run.state, run.attempts) == (Run.State.QUEUED, 0)
    assert (jobs.folder_of(run.pk) / "checkpoint" / "state.pt").exists()


def test_a_worker_whose_lease_was_taken_leaves_the_run_alone(
    long_draft, builder, in_background, monkeypatch
):
    monkeypatch.setattr(jobs, "HEARTBEAT_SECONDS", 0.1)
    run = queue(long_draft, builder)
    thread = in_background(run)
    wait_until(lambda: has_progress(run))
    Run.objects.filter(pk=run.pk).update(lease_owner="somebody-else")
    thread.join(60)
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING
    assert child_pid() is None


def test_a_base_that_lost_its_files_fails_with_a_reason(draft, builder, base, tmp_path):
    base.folder = str(tmp_path / "nowhere")
    run = queue(draft, builder)
    base.save(update_fields=["folder"])
    run = execute(run)
    assert run.state == Run.State.FAILED
    assert "tokenizer" in run.failure_reason


def test_a_database_that_goes_away_leaves_the_run_to_the_sweeper(draft, builder, monkeypatch):
    def lost(*_):
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(jobs, "supervise", lost)
    run = execute(queue(draft, builder))
    assert run.state == Run.State.RUNNING
    leases.sweep(at=now() + timedelta(hours=1))
    run.refresh_from_db()
    assert run.state == Run.State.QUEUED


def test_the_child_sees_no_keys_of_the_house(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("SECRET_KEY", "secret")
    assert not [v for v in jobs.child_environment().values() if "secret" in v]


def test_a_version_with_a_weight_is_read_as_often(draft, builder, version):
    drafts.set_data(run=draft, versions=[(version, 3)], acting_user=builder)
    run = queue(draft, builder)
    folder = jobs.prepare(run, device="cpu", dtype="float32")
    lines = (folder / "records.jsonl").read_text().splitlines()
    assert len(lines) == 3 * VersionRecord.objects.filter(version=version).count()
    run = execute(run)
    assert run.state == Run.State.SUCCEEDED
    assert len(list(selectors.training_records(run.model.pk))) == 16
