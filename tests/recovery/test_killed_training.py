"""kill -9 of the training, and of the worker that runs it: the run goes on where it stood."""

import os
import signal
from pathlib import Path

import pytest

from tests.recovery.conftest import Rig, Run, ended

pytestmark = pytest.mark.timeout(600)


def test_a_killed_run_ends_well_within_its_three_attempts(rig: Rig, killed_run: Run) -> None:
    state, reason, attempts = ended(rig, killed_run.id)
    assert (state, reason, attempts) == ("SUCCEEDED", "", 3)
    assert (
        rig.value("SELECT count(*) FROM modelfactory_model WHERE run_id = %s", killed_run.id) == 1
    )


def test_it_goes_on_from_its_checkpoints(rig: Rig, killed_run: Run) -> None:
    resumed = _steps(rig, killed_run, "RESUMED")
    assert len(resumed) == 2
    assert all(at >= saved > 0 for at, saved in zip(resumed, killed_run.steps_at_kill, strict=True))
    assert _steps(rig, killed_run, "STARTED") == [0]
    assert len(_steps(rig, killed_run, "FINISHED")) == 1


def test_no_event_is_doubled_or_lost(rig: Rig, killed_run: Run) -> None:
    kept = rig.rows(
        "SELECT sequence, kind, step FROM modelfactory_runevent WHERE run_id = %s "
        "ORDER BY sequence",
        killed_run.id,
    )
    assert [sequence for sequence, _, _ in kept] == list(range(1, len(kept) + 1))
    assert kept[0][1] == "STARTED"
    assert kept[-1][1] == "FINISHED"


def test_a_run_that_succeeded_leaves_no_texts_behind(rig: Rig, killed_run: Run) -> None:
    folder = Path(rig.house.data_dir) / "runs" / killed_run.id
    rig.until("the run's folder to go", lambda: not folder.exists())


def test_a_run_that_always_dies_fails_with_a_reason_and_can_be_started_again(rig: Rig) -> None:
    run = rig.act("begin_run", name="Always killed", epochs=1)["run"]
    seen: set[int] = set()
    while len(seen) < 3:
        child = rig.until("the training", lambda: _new_child(rig, seen))
        os.kill(child, signal.SIGKILL)
        seen.add(child)
    state, reason, attempts = ended(rig, run)
    assert (state, attempts) == ("FAILED", 3)
    assert "SIGKILL" in reason
    assert "start the run again" in reason
    rig.act("restart_run", run=run)
    assert ended(rig, run)[0] == "SUCCEEDED"


def _new_child(rig: Rig, seen: set[int]) -> int | None:
    child = rig.training_child()
    return child if child not in seen else None


def _steps(rig: Rig, run: Run, kind: str) -> list[int]:
    query = (
        "SELECT step FROM modelfactory_runevent WHERE run_id = %s AND kind = %s ORDER BY sequence"
    )
    return [step for (step,) in rig.rows(query, run.id, kind)]
