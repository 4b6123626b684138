"""Actors, a base model so small that a training takes a second, and a version to train on."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from datanets.models import Version
from modelfactory.models import BaseModel, Run
from modelfactory.services import bases, drafts
from modelfactory.training.bases import inspect
from tests.modelfactory import world

STARTER = world.STARTER


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STARTER / name, folder / name)
    return folder


@pytest.fixture(autouse=True)
def places(settings: Any, tmp_path: Path) -> None:
    """Each test has folders, keys and an object store of its own."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "blobs")},
        },
    }
    settings.DATA_DIR = tmp_path / "data"
    settings.MANIFEST_KEY_PATH = tmp_path / "keys" / "manifest.ed25519"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"


@pytest.fixture
def builder(db: None) -> User:
    return world.person("builder")


@pytest.fixture
def owner(db: None) -> User:
    return world.person("owner")


@pytest.fixture
def stranger(db: None) -> User:
    return world.person("stranger")


@pytest.fixture
def staff(db: None) -> User:
    return world.person("staff", is_staff=True)


@pytest.fixture
def as_user() -> Any:
    def sign_in(user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def version(owner: User) -> Version:
    return world.version(owner)


@pytest.fixture
def base(tiny_base: Path, db: None) -> BaseModel:
    return BaseModel.objects.create(
        slug="tiny",
        name="Tiny",
        origin=str(tiny_base),
        folder=str(tiny_base),
        state="READY",
        **bases.columns(inspect(tiny_base)),
    )


@pytest.fixture
def draft(builder: User, base: BaseModel, version: Version) -> Run:
    return drafts.create_run(
        name="Colours",
        goal="Know every door.",
        base_model=base,
        versions=[version],
        recipe=world.SMALL,
        acting_user=builder,
        at=world.NOW,
    )
