"""The product's processes for a benchmark: PostgreSQL that waits for the disk, Redis, web, relay
and a generate worker, each started as in production and bound to stated cores.

The engine's thread has a core of its own; all else, the load's client too, shares the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from bench import house as durable_house
from config.embedded import redis as embedded_redis
from config.embedded.paths import REPOSITORY, free_port
from config.embedded.workers import POOLED, worker

if TYPE_CHECKING:
    from accounts.models import User
    from bench.serving.__main__ import House
    from modelfactory.models import BaseModel, Model

STREAMS = 32
SLUG = "bench"
START_SECONDS = 120.0
ENGINE_CPU, OTHER_CPU = "0", "1"


@dataclass
class Product:
    """Where the running product is asked, and with what."""

    port: int
    secret: str
    models: list[str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)


def bind(cpu: str) -> None:
    """Keep this process, and what it starts, on one core; elsewhere than on Linux nothing."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {int(cpu)})


@contextmanager
def running(house: House, folder: Path) -> Iterator[Product]:
    """All up, with a deployment for each adapter; down at the end."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    bind(OTHER_CPU)
    started: list[subprocess.Popen[bytes]] = []
    try:
        with durable_house.durable(folder, connections=100):
            yield _start(house, folder, started)
            _stop(started)
    finally:
        _stop(started)
        if before:
            os.sched_setaffinity(0, before)


def _start(house: House, folder: Path, started: list[subprocess.Popen[bytes]]) -> Product:
    from django.conf import settings

    redis_port, web_port = free_port(6900), free_port(8900)
    environment = {
        **os.environ,
        "REDIS_URL": embedded_redis.url(redis_port),
        "DATA_DIR": str(settings.DATA_DIR),
        "GENERATE_BASES": SLUG,
        "ENGINE_MAX_ACTIVE": str(STREAMS),
        "ENGINE_CPUS": ENGINE_CPU,
        "OPENLEDGER_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "DATABASE_POOL": POOLED["web"],
        "CHAIN_ENABLED": "0",
        "KEY_REQUESTS_PER_MINUTE": "1000000",
        "KEY_TOKENS_PER_MINUTE": "1000000000",
    }

    def start(name: str, command: tuple[str, ...]) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT
                )
            )

    start("redis", embedded_redis.command(folder, port=redis_port))
    embedded_redis.wait_until_ready(embedded_redis.url(redis_port))
    web = (sys.executable, "-m", "uvicorn", "config.asgi:application", "--lifespan", "off")
    start("web", (*web, "--host", "127.0.0.1", "--port", str(web_port), "--log-level", "warning"))
    start("relay", (sys.executable, "manage.py", "relay"))
    start("generate", worker("g", f"generate.{SLUG}", pool="threads", slots=STREAMS))
    _wait_for(lambda: _answers(web_port), "the web process")
    secret, models = _fill(house)
    return Product(web_port, secret, models, started)


def _stop(started: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(started):
        process.terminate()
    for process in started:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    started.clear()


def _fill(house: House) -> tuple[str, list[str]]:
    """A person with money and a key, and STREAMS models in service."""
    from django.utils import timezone

    from accounts import api_keys
    from accounts.models import User
    from accounts.workers import live_workers
    from serving.models import Deployment, DeploymentState
    from serving.services import deployments
    from tests.ledger.books import OPEN, fund

    ready = base(house.folder / "base")
    builder = User.objects.create_user("builder@bench.test", handle="builder")
    client = User.objects.create_user("client@bench.test", handle="client")
    fund(client, 1_000_000 * OPEN)
    _, secret = api_keys.create_key(
        user=client, name="bench", acting_user=client, at=timezone.now()
    )
    _wait_for(
        lambda: live_workers(queue=f"generate.{SLUG}", at=timezone.now()).exists(), "the worker"
    )
    names = []
    for number, (_, source) in enumerate(house.grow(STREAMS)):
        model = _model(ready, builder, source, number)
        deployed = deployments.deploy(model=model, acting_user=builder, at=timezone.now())
        names.append(deployed.name)
    _wait_for(
        lambda: not Deployment.objects.exclude(state=DeploymentState.LIVE).exists(),
        "the deployments",
    )
    return secret, names


def base(folder: Path) -> BaseModel:
    """The base in `folder`, ready."""
    from modelfactory.models import BaseModel
    from modelfactory.services.bases import columns
    from modelfactory.training.bases import inspect

    return BaseModel.objects.create(
        slug=SLUG,
        name="Bench",
        source=BaseModel.Source.FOLDER,
        origin=str(folder),
        folder=str(folder),
        state=BaseModel.State.READY,
        **columns(inspect(folder)),
    )


def _model(base: BaseModel, builder: User, source: Path, number: int) -> Model:
    from accounts.blobs import put_bytes
    from modelfactory.models import Model, Run

    weights = (source / "adapter_model.safetensors").read_bytes()
    blob = put_bytes(weights, "application/octet-stream")
    run = Run.objects.create(
        builder=builder, name=f"m{number}", base_model=base, state=Run.State.SUCCEEDED
    )
    return Model.objects.create(
        slug=f"builder-m{number}",
        name=f"m{number}",
        run=run,
        owner=builder,
        base_model=base,
        state=Model.State.PUBLISHED,
        adapter_sha256=blob.sha256,
        adapter_bytes=len(weights),
        adapter_config=json.loads((source / "adapter_config.json").read_text()),
        manifest={},
        manifest_sha256="0" * 64,
        input_price=10**12,
        output_price=2 * 10**12,
    )


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _wait_for(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"{what} did not come up in {START_SECONDS:.0f} s.")
        time.sleep(0.2)
