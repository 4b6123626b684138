"""Named actors, the starter base, a live worker's heartbeat, and a random adapter on the base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from safetensors import safe_open

from accounts import workers
from accounts.blobs import put_bytes
from accounts.models import User
from modelfactory.models import BaseModel, Model, Run
from modelfactory.services.bases import register_starter
from serving.models import Deployment, DeploymentState
from serving.services import deployments
from tests.ledger.books import OPEN, fund, person

QUEUE = "generate.starter"
STARTER = Path(__file__).resolve().parents[2] / "modelfactory" / "starter"
RANK = 4


@pytest.fixture(autouse=True)
def no_reporter(monkeypatch):
    """Threads of a worker's process would outlive the test, and its database."""
    monkeypatch.setattr("serving.reporting.Reporter.start", lambda self: None)
    monkeypatch.setattr("serving.turns.Waker.start", lambda self: None)


@pytest.fixture(autouse=True)
def own_blobs(settings, tmp_path):
    """A test keeps its blobs to itself and has no chain."""
    settings.CHAIN_ENABLED = False
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "blobs")},
        }
    }


@pytest.fixture
def client_person(db) -> User:
    """Pays for completions."""
    user = person("client")
    fund(user, 10 * OPEN)
    return user


@pytest.fixture
def builder(db) -> User:
    return person("builder")


@pytest.fixture
def stranger(db) -> User:
    return person("stranger")


@pytest.fixture
def staff(db) -> User:
    user = person("staff")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


@pytest.fixture(scope="session")
def endless_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter without its end token, so that an answer is as long as a test wants it."""
    folder = tmp_path_factory.mktemp("base") / "starter"
    shutil.copytree(STARTER, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
    (folder / "generation_config.json").unlink()
    return folder


@pytest.fixture
def base(db, endless_folder: Path) -> BaseModel:
    made = register_starter(at=timezone.now())
    made.folder = str(endless_folder)
    made.save(update_fields=["folder"])
    return made


def beat(queue: str = QUEUE, *, ago: float = 0.0) -> None:
    """A sign of life of a worker on this queue."""
    workers.beat(
        name="worker@test",
        queue=queue,
        pid=1,
        device="cpu",
        dtype="float32",
        at=timezone.now() - timedelta(seconds=ago),
    )


@pytest.fixture
def live_worker(db) -> None:
    beat()


ModelMaker = Callable[..., Model]


@pytest.fixture
def make_model(base: BaseModel, builder: User) -> ModelMaker:
    """A model as a run leaves it, with random weights that change every answer."""

    def make(name: str = "tuned", seed: int = 1, **changes: Any) -> Model:
        weights, config = random_adapter(base.path, seed)
        blob = put_bytes(weights, "application/octet-stream")
        run = Run.objects.create(
            builder=builder, name=name, base_model=base, state=Run.State.SUCCEEDED
        )
        values = {
            "slug": f"builder-{name}",
            "name": name,
            "run": run,
            "owner": builder,
            "base_model": base,
            "state": Model.State.PUBLISHED,
            "adapter_sha256": blob.sha256,
            "adapter_bytes": len(weights),
            "adapter_config": config,
            "manifest": {},
            "manifest_sha256": "0" * 64,
            "input_price": 10**12,
            "output_price": 2 * 10**12,
        }
        return Model.objects.create(**{**values, **changes})

    return make


def random_adapter(base_folder: Path, seed: int) -> tuple[bytes, dict[str, Any]]:
    """Weights file and configuration of a LoRA on the attention of each layer."""
    import torch
    from safetensors.torch import save

    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    with safe_open(base_folder / "model.safetensors", framework="pt") as file:
        for key in file.keys():  # noqa: SIM118
            if not key.endswith(("q_proj.weight", "v_proj.weight")):
                continue
            rows, columns = file.get_slice(key).get_shape()
            stem = f"base_model.model.{key.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
            tensors[f"{stem}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator) * 0.05
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
    }
    return save(tensors), json.loads(json.dumps(config))


@pytest.fixture
def tuned(make_model: ModelMaker, live_worker: None, builder: User) -> Deployment:
    """A model that is deployed and live, with its base beside it."""
    made = deployments.deploy(model=make_model(), acting_user=builder, at=timezone.now())
    Deployment.objects.update(state=DeploymentState.LIVE, lease_expires_at=None)
    made.refresh_from_db()
    return made


@pytest.fixture
def base_alone(tuned: Deployment) -> Deployment:
    found: Deployment = Deployment.objects.get(model=None)
    return found


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    from tests.attribution.world import tiny_base_and_adapter

    return tiny_base_and_adapter(tmp_path_factory.mktemp("merges"))


@pytest.fixture
def two(db, settings, tmp_path, tiny_folders):
    """`Two` of `tests.serving.blends`, with an engine of its own."""
    from attribution import scorers
    from serving import workers
    from tests.attribution.world import World
    from tests.serving.blends import Two

    settings.DATA_DIR = tmp_path
    settings.LOG_KEY_PATH = tmp_path / "keys" / "log.ed25519"
    scorers.clear()
    workers.close_engines()
    yield Two(World(tiny_folders))
    workers.close_engines()
