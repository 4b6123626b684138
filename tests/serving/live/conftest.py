"""The product as it runs: web (uvicorn), relay, beat's sweeper by hand, and a generate worker.

All are processes of their own on the test's database and on a Redis of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import openai
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone

from accounts import api_keys
from accounts.models import User
from config.embedded import redis as embedded_redis
from config.embedded.paths import free_port
from config.embedded.workers import worker
from serving.models import Completion, Deployment, DeploymentState
from serving.services import deployments
from tests.ledger.books import OPEN, fund

REPOSITORY = Path(__file__).resolve().parents[3]
LEASE_SECONDS = 4


@dataclass
class House:
    """The running processes, and how to ask them."""

    folder: Path
    environment: dict[str, str]
    address: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def start(self, name: str, command: tuple[str, ...] | None = None) -> None:
        self.commands[name] = command or self.commands[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self, name: str) -> None:
        """As a power cut would."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-6_000:]


def database_url() -> str:
    """The address of the test's own database, for other processes."""
    found = connection.settings_dict
    host, name = found["HOST"] or "localhost", found["NAME"]
    who = quote(found["USER"] or "postgres")
    if found["PASSWORD"]:
        who += f":{quote(found['PASSWORD'])}"
    if host.startswith("/"):
        return f"postgresql://{who}@/{name}?host={quote(host, safe='')}"
    return f"postgresql://{who}@{host}:{found['PORT'] or 5432}/{name}"


@pytest.fixture(scope="package")
def house(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Up for this folder's tests alone: its worker answers whatever the database is asked for."""
    folder = tmp_path_factory.mktemp("house")
    redis_port, web_port = free_port(6700), free_port(8700)
    made = House(
        folder=folder,
        address=f"http://127.0.0.1:{web_port}",
        environment={
            **os.environ,
            "DATABASE_URL": database_url(),
            "REDIS_URL": embedded_redis.url(redis_port),
            "DATA_DIR": str(folder / "data"),
            # Sessions made by a test are signed with it.
            "SECRET_KEY": django_settings.SECRET_KEY,
            "WORK_LEASE_SECONDS": str(LEASE_SECONDS),
            "WORKER_HEARTBEAT_SECONDS": "1",
            "CHAIN_ENABLED": "0",
            "DATABASE_POOL": "16",
            "OMP_NUM_THREADS": "1",
            "OPENLEDGER_DEVICE": "cpu",
        },
    )
    try:
        made.start("redis", embedded_redis.command(folder, port=redis_port))
        embedded_redis.wait_until_ready(embedded_redis.url(redis_port))
        made.start("web", _web(web_port))
        made.start("relay", (sys.executable, "manage.py", "relay"))
        made.start("generate", worker("g", "generate.starter", pool="threads", slots=20))
        _wait_for(lambda: _answers(made.address), 60, made, "web")
        yield made
    finally:
        made.stop()


def _web(port: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "uvicorn", "config.asgi:application", "--lifespan", "off"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
    )


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _wait_for(condition: Callable[[], bool], seconds: float, house: House, name: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, house.log(name)
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def own_blobs(house: House, settings) -> None:
    """The test and the processes see the same blobs and the same Redis."""
    from serving import streams

    settings.CHAIN_ENABLED = False
    settings.REDIS_URL = house.environment["REDIS_URL"]
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(house.folder / "data" / "blobs")},
        }
    }
    streams.connection_of_this_process.cache_clear()


@pytest.fixture
def clean(transactional_db: None) -> None:
    """Rows are committed, since other processes read them."""


@pytest.fixture
def live_worker(house: House, clean: None) -> None:
    """Wait for the worker's own sign of life; the table was emptied after the last test."""
    from accounts.workers import live_workers

    def lives() -> bool:
        return live_workers(queue="generate.starter", at=timezone.now()).exists()

    _wait_for(lives, 60, house, "generate")


@pytest.fixture
def client_person(clean: None) -> User:
    user = User.objects.create_user("client@openledger.test", "a long password", handle="client")
    fund(user, 10 * OPEN)
    return user


@pytest.fixture
def secret(client_person: User) -> str:
    _, made = api_keys.create_key(
        user=client_person, name="test", acting_user=client_person, at=timezone.now()
    )
    return made


@pytest.fixture
def client(house: House, secret: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{house.address}/v1", api_key=secret, max_retries=0, timeout=60)


@pytest.fixture
def live(house: House, make_model, live_worker, builder) -> Deployment:
    """Deployed by the service, loaded by the worker."""
    made = deployments.deploy(model=make_model(), acting_user=builder, at=timezone.now())

    def is_live() -> bool:
        states = set(Deployment.objects.values_list("state", flat=True))
        assert DeploymentState.STOPPED not in states, made.failure_reason
        return states == {DeploymentState.LIVE}

    _wait_for(is_live, 60, house, "generate")
    made.refresh_from_db()
    return made


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something to become true of the database."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def ended(completion_id: str, seconds: float = 30) -> Completion:
    from serving.streams import wait_for

    return wait_for(completion_id, seconds=seconds)
