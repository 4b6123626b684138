"""PostgreSQL and Redis for one command, in a folder that goes with it: for tests and benchmarks."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from config.embedded import postgres, redis
from config.embedded.paths import free_port
from config.embedded.supervisor import Service, Supervisor

TEST_REDIS_PORT = 6500
CONNECTIONS = 200


@contextmanager
def temporary_services() -> Iterator[dict[str, str]]:
    """The environment with DATABASE_URL, REDIS_URL and DATA_DIR of services that live as long.

    What the environment already names is used as it is.
    """
    with temporary_folder() as folder, _services_in(folder) as found:
        # Whatever else the environment gives (a DATA_DIR in use above all) is not for tests.
        yield {**os.environ, **found}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that another user may enter, PostgreSQL's where root asks; it goes at the end.

    Below /tmp by name: a TMPDIR inside root's home, or the folder that pytest closes to others at
    each of its starts, could not be reached.
    """
    folder = Path(tempfile.mkdtemp(prefix="openledger-test-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _services_in(folder: Path) -> Iterator[dict[str, str]]:
    supervisor = Supervisor(folder)
    found: dict[str, str] = {"DATA_DIR": str(folder / "data")}
    try:
        if "DATABASE_URL" not in os.environ:
            found["DATABASE_URL"] = _postgres(folder, supervisor)
        if "REDIS_URL" not in os.environ:
            found["REDIS_URL"] = _redis(folder, supervisor)
        yield found
    finally:
        supervisor.stop()


def run_with_services(command: Sequence[str]) -> int:
    """Runs `command` on temporary services; returns its exit status."""
    with temporary_services() as environment:
        process = subprocess.Popen(list(command), env=environment)
        # Ctrl-C reaches the command itself; the services must outlive it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, before)


def _postgres(folder: Path, supervisor: Supervisor) -> str:
    cluster = postgres.prepare(folder, max_connections=CONNECTIONS, durable=False)
    supervisor.start(
        Service(
            "postgres",
            cluster.command,
            user=cluster.user,
            folder=Path("/"),
            stop_signal=signal.SIGINT,
            grace=20,
        )
    )
    postgres.wait_until_ready(cluster)
    return postgres.ensure_database(cluster, "openledger")


def _redis(folder: Path, supervisor: Supervisor) -> str:
    port = free_port(TEST_REDIS_PORT)
    supervisor.start(Service("redis", redis.command(folder, port=port)))
    redis.wait_until_ready(redis.url(port))
    return redis.url(port)
