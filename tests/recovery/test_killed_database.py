"""PostgreSQL is killed with -9 five times under load: no acknowledged entry is lost or doubled."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded import postgres
from config.embedded.paths import REPOSITORY
from config.embedded.temporary import temporary_folder

WRITERS = 4
KILLS = 5
ENTRIES = 20_000
PATIENCE = 240.0  # seconds

pytestmark = pytest.mark.skipif(not postgres.is_available(), reason="needs PostgreSQL from a wheel")


class Server:
    """A PostgreSQL that waits for the disk, and that can be killed with all of its processes."""

    def __init__(self, folder: Path) -> None:
        self.cluster = postgres.prepare(folder, durable=True)
        self.process = self._start()
        self.url = postgres.ensure_database(self.cluster, "openledger")

    def _start(self) -> subprocess.Popen[bytes]:
        for _ in range(6):
            process = self._begin()
            try:
                postgres.wait_until_ready(self.cluster, timeout=10)
            except TimeoutError:
                # Processes of the killed one that live for a moment longer hold its memory, and
                # the new one ends at once.
                if process.poll() is not None:
                    continue
                postgres.wait_until_ready(self.cluster)
            return process
        raise TimeoutError("PostgreSQL ends at once.")

    def _begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.cluster.command,
            cwd="/",
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **postgres.as_user(self.cluster),
        )

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def start_again(self) -> None:
        self.process = self._start()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@pytest.fixture
def server() -> Iterator[Server]:
    with temporary_folder() as folder:
        server = Server(folder)
        yield server
        server.stop()


def writer(server: Server, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.recovery.ledger_writer", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": server.url, "CHAIN_ENABLED": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.acks"))


def wait_for(folder: Path, count: int, writers: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while acknowledged(folder) < count:
        assert time.monotonic() < deadline, f"only {acknowledged(folder)} entries"
        assert all(process.poll() is None for process in writers), "a writer died"
        time.sleep(0.05)


def test_no_acknowledged_entry_is_lost_or_doubled(server: Server, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": server.url},
        check=True,
    )
    assert writer(server, "prepare").wait(60) == 0
    writers = [writer(server, "write", str(n), str(tmp_path)) for n in range(WRITERS)]
    dice = random.Random(20)
    for kill in range(1, KILLS + 1):
        wait_for(tmp_path, ENTRIES * kill // (KILLS + 1), writers)
        # At any moment of a transaction, of a checkpoint, of the write-ahead log.
        time.sleep(dice.random() / 2)
        server.kill()
        server.start_again()
    wait_for(tmp_path, ENTRIES, writers)
    (tmp_path / "stop").touch()
    assert [process.wait(60) for process in writers] == [0] * WRITERS

    checked = writer(server, "check", str(tmp_path))
    told = json.loads(checked.communicate(timeout=120)[0])

    assert told["acknowledged"] >= ENTRIES
    assert told["kept"] == told["acknowledged"]
    wrong = {name: told[name] for name in ("lost", "other", "unasked", "differences")}
    assert not any(wrong.values()), wrong
    assert told["asked_twice"] == 0
