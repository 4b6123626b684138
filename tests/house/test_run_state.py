"""Two products never run on one DATA_DIR, and a killed one leaves nothing running."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from config.embedded.state import (
    AlreadyRunningError,
    RunState,
    running_environment,
    use_running_services,
)

ADDRESSES = {"SITE_URL": "http://localhost:8000", "DATABASE_URL": "postgresql:///x", "SECRET": "no"}


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )


def test_a_second_start_is_refused_with_the_address_of_the_first(tmp_path: Path) -> None:
    first = RunState(tmp_path)
    first.acquire()
    first.write(environment=ADDRESSES, pids={})
    with pytest.raises(AlreadyRunningError, match="http://localhost:8000"):
        RunState(tmp_path).acquire()
    first.release()
    again = RunState(tmp_path)
    again.acquire()
    again.release()


def test_a_start_after_a_kill_ends_what_was_left(tmp_path: Path) -> None:
    child = sleeper()
    killed = RunState(tmp_path)
    killed.acquire()
    killed.write(environment=ADDRESSES, pids={"web": child.pid})
    assert killed._lock is not None
    killed._lock.close()  # what a kill -9 does to the lock

    RunState(tmp_path).acquire()

    assert not psutil.pid_exists(child.pid)


def test_a_pid_that_now_belongs_to_another_process_is_left_alone(tmp_path: Path) -> None:
    child = sleeper()
    state = RunState(tmp_path)
    state.acquire()
    state.write(environment=ADDRESSES, pids={"web": child.pid})
    state.file.write_text(state.file.read_text().replace('"started": ', '"started": 1'))
    assert state._lock is not None
    state._lock.close()

    RunState(tmp_path).acquire()

    assert psutil.pid_exists(child.pid)
    os.killpg(child.pid, 9)
    child.wait()


def test_a_command_started_by_hand_finds_the_running_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = RunState(tmp_path)
    state.acquire()
    state.write(environment=ADDRESSES, pids={})
    environ = {"DATA_DIR": str(tmp_path)}
    use_running_services(environ)
    assert environ["DATABASE_URL"] == "postgresql:///x"
    state.release()
    assert running_environment(tmp_path) == {}


def test_an_address_that_was_chosen_stays(tmp_path: Path) -> None:
    state = RunState(tmp_path)
    state.acquire()
    state.write(environment=ADDRESSES, pids={})
    environ = {"DATA_DIR": str(tmp_path), "DATABASE_URL": "postgresql:///mine"}
    use_running_services(environ)
    state.release()
    assert environ["DATABASE_URL"] == "postgresql:///mine"
    assert "SITE_URL" not in environ


def test_nothing_secret_is_written_down(tmp_path: Path) -> None:
    state = RunState(tmp_path)
    state.acquire()
    state.write(environment=ADDRESSES, pids={})
    assert "SECRET" not in state.file.read_text()
    state.release()
