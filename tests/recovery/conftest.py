"""The whole product with short leases, and hands that kill its processes.

The tests look at its database from outside and act through `tests.recovery.actions`, a process of
its own: the services of this test session are others.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import psycopg
import pytest
import redis

from config.embedded.house import House
from config.embedded.paths import REPOSITORY
from config.embedded.temporary import temporary_folder

# Somebody's own services must not be killed; what these tests start they stop.
GIVEN = ("DATABASE_URL", "REDIS_URL", "CHAIN_RPC_URL", "DATA_DIR", "SITE_URL", "PORT")
CHOSEN = {
    "PORT": "8865",
    "WORK_LEASE_SECONDS": "12",
    "WORKER_HEARTBEAT_SECONDS": "2",
    "RUN_CHECKPOINT_SECONDS": "1",
    "DISTRIBUTION_SECONDS": "15",
    "UPLOAD_USER_DAY_FILES": "50",
    "OMP_NUM_THREADS": "1",
}
PATIENCE = 240.0  # seconds; a machine that others use as well is slow, not wrong
Found = TypeVar("Found")


class Rig:
    """What the tests do to a running house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.children = house.supervisor.children

    def act(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Run one of `tests.recovery.actions` on the house; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.recovery.actions", action, json.dumps(arguments)],
            env={**os.environ, **self.house.environment},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.house.environment["DATABASE_URL"]) as connection:
            return connection.execute(query, values).fetchall()

    def value(self, query: str, *values: Any) -> Any:
        """The first column of the first row; None where there is no row."""
        found = self.rows(query, *values)
        return found[0][0] if found else None

    def until(
        self, what: str, look: Callable[[], Found | None], seconds: float = PATIENCE
    ) -> Found:
        """Ask `look` until it returns something true."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, f"{what} did not come in {seconds:.0f} s"
            time.sleep(0.1)
        return found

    def pid(self, name: str) -> int:
        """The process of a service, once it has one."""
        return self.until(f"the process of {name}", lambda: self.house.supervisor.pids().get(name))

    def kill(self, name: str) -> None:
        """kill -9 of a service's process; the supervisor brings it back."""
        os.kill(self.pid(name), signal.SIGKILL)

    def kill_and_return(self, name: str) -> None:
        before = self.pid(name)
        os.kill(before, signal.SIGKILL)
        self.until(f"{name} again", lambda: self.pid(name) != before)

    def keep_down(self, names: Sequence[str]) -> None:
        """Kill services, and have the supervisor leave them so."""
        for name in names:
            self.children[name].done = True
        for name in names:
            os.kill(self.pid(name), signal.SIGKILL)
        self.until("their end", lambda: not set(names) & set(self.house.supervisor.pids()))

    def let_up(self, names: Sequence[str]) -> None:
        for name in names:
            self.children[name].done = False

    def training_child(self) -> int | None:
        """The process that trains, None while there is none."""
        worker = self.house.supervisor.pids().get("train")
        try:
            for child in psutil.Process(worker).children() if worker else []:
                if "modelfactory.training" in child.cmdline():
                    return int(child.pid)
        except psutil.NoSuchProcess:
            pass
        return None

    def flush_redis(self) -> None:
        redis.Redis.from_url(self.house.environment["REDIS_URL"]).flushall()


@pytest.fixture(scope="package")
def rig() -> Iterator[Rig]:
    """Everything that `make demo` starts, with its logins and records."""
    environ = {key: value for key, value in os.environ.items() if key not in GIVEN} | CHOSEN
    with temporary_folder() as folder:
        house = House(folder, say=print, environ=environ)
        house.lock()
        try:
            house.start_foundations()
            house.prepare()
            house.manage("seed_demo")
            house.start_processes()
            house.wait_for_web()
            yield Rig(house)
        finally:
            house.close()


@dataclass(frozen=True)
class Run:
    """A run whose training was killed, and where its training stood at each kill."""

    id: str
    steps_at_kill: tuple[int, ...]


@pytest.fixture(scope="package")
def killed_run(rig: Rig) -> Run:
    """A run that lost its training process once and then its whole worker, and ended."""
    run = rig.act("begin_run", name="Killed half-way", epochs=2)["run"]
    steps = [checkpoint_after(rig, run, 0)]
    os.kill(rig.until("the training", rig.training_child), signal.SIGKILL)
    steps.append(checkpoint_after(rig, run, newest_sequence(rig, run, "RESUMED", 1)))
    rig.kill("train")
    ended(rig, run)
    return Run(run, tuple(steps))


def checkpoint_after(rig: Rig, run: str, sequence: int) -> int:
    """The step of the next checkpoint after an event."""
    query = (
        "SELECT step FROM modelfactory_runevent WHERE run_id = %s AND kind = 'CHECKPOINT' "
        "AND sequence > %s ORDER BY sequence LIMIT 1"
    )
    found: int = rig.until("a checkpoint", lambda: rig.value(query, run, sequence))
    return found


def newest_sequence(rig: Rig, run: str, kind: str, count: int) -> int:
    """The number of the newest event of a kind, once there are `count` of them."""
    query = (
        "SELECT max(sequence) FROM modelfactory_runevent WHERE run_id = %s AND kind = %s "
        "HAVING count(*) >= %s"
    )
    found: int = rig.until(kind, lambda: rig.value(query, run, kind, count))
    return found


def ended(rig: Rig, run: str) -> tuple[str, str, int]:
    """State, reason and attempts of a run that has come to an end."""
    query = (
        "SELECT state, failure_reason, attempts FROM modelfactory_run "
        "WHERE id = %s AND state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"
    )
    state, reason, attempts = rig.until("the run's end", lambda: rig.rows(query, run))[0]
    return str(state), str(reason), int(attempts)


@pytest.fixture(scope="package")
def service(rig: Rig, killed_run: Run) -> dict[str, Any]:
    """The killed run's model in service, with a key that pays: `model`, `base`, `key`."""
    return rig.act("put_in_service", run=killed_run.id)


@pytest.fixture
def chance() -> random.Random:
    """Moments differ between machines anyhow; the order of the kills does not."""
    return random.Random(20_261_121)
