"""Which records a worker trains on at each attempt, and what is left of them afterwards."""

import json

import pytest

from datanets.models import Datanet, Record
from modelfactory import jobs
from modelfactory.errors import RunError
from modelfactory.models import Run
from modelfactory.services import runs
from modelfactory.training.job import Exit
from tests.modelfactory.world import NOW

GONE = ["WITHDRAWN", "TAKEN_DOWN"]


@pytest.fixture
def cancelled(draft, builder):
    """A run with records and a checkpoint of an earlier attempt."""
    run = runs.start_run(run=draft, acting_user=builder, at=NOW)
    folder = prepare(run)
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "state.pt").write_bytes(b"state")
    return runs.cancel_run(run=run, acting_user=builder, at=NOW)


def prepare(run):
    return jobs.prepare(run, device="cpu", dtype="float32")


def records_in(folder):
    lines = (folder / "records.jsonl").read_text("utf-8").splitlines()
    return {json.loads(line)["record"] for line in lines}


def restart(run, builder):
    return runs.restart_run(run=run, acting_user=builder, at=NOW)


def test_a_restart_on_the_same_records_keeps_the_checkpoint(cancelled, builder):
    folder = prepare(restart(cancelled, builder))
    assert (folder / "checkpoint" / "state.pt").exists()


@pytest.mark.parametrize("state", GONE)
def test_a_restart_leaves_out_what_was_withheld_since(cancelled, builder, version, state):
    record = version.entries.first().record_id
    assert str(record) in records_in(jobs.folder_of(cancelled.pk))
    Record.objects.filter(pk=record).update(state=state)
    run = restart(cancelled, builder)
    folder = prepare(run)
    assert len(records_in(folder)) == 19
    assert str(record) not in records_in(folder)
    assert not (folder / "checkpoint").exists()
    assert [f["record"] for f in Run.objects.get(pk=run.pk).findings] == [str(record)]


def test_a_run_on_a_datanet_that_was_taken_down_does_not_start_again(cancelled, builder):
    Datanet.objects.update(state="TAKEN_DOWN")
    with pytest.raises(RunError, match="You may not train on Colours") as caught:
        restart(cancelled, builder)
    assert caught.value.code == "VERSION"


@pytest.mark.parametrize("state", ["TAKEN_DOWN", "DRAFT"])
def test_a_run_whose_datanet_was_closed_while_it_waited_fails_with_the_reason(
    cancelled, builder, state
):
    run = restart(cancelled, builder)
    Datanet.objects.update(state=state)
    assert jobs.execute(run.pk, device="cpu", dtype="float32")
    run.refresh_from_db()
    assert run.state == "FAILED"
    assert run.failure_reason.startswith("You may not train on Colours any more.")


@pytest.mark.parametrize(("made", "stays"), [(object(), False), (None, True)])
def test_its_folder_goes_when_the_model_stands(cancelled, monkeypatch, made, stays):
    monkeypatch.setattr(jobs.publishing, "complete", lambda **_: made)
    folder = jobs.folder_of(cancelled.pk)
    jobs.conclude(cancelled, folder, "worker-1", Exit.FINISHED, "")
    assert folder.exists() is stays
