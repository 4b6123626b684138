"""The people and the Datanet of these tests, by name."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import OutboxMessage, User
from datanets import tasks
from datanets.models import Contribution, Datanet, Membership
from datanets.services import datanets as services
from datanets.services import imports, reviews

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SHARED = Path(__file__).resolve().parents[2].parent / "shared"
ROWS = [
    {"question": f"What is item {number}?", "answer": f"It is the item with number {number}."}
    for number in range(1, 7)
]


def shared(part: str) -> Path:
    """A file of the shared data; the test is skipped where it is absent."""
    path = SHARED / part
    if not path.exists():
        pytest.skip(f"shared data is absent: {part}")
    return path


def make_person(name: str, **extra: Any) -> User:
    return User.objects.create_user(
        f"{name}@openledger.test", "correct horse", **{"handle": name, **extra}
    )


@pytest.fixture(autouse=True)
def store(settings: Any, tmp_path: Path) -> None:
    """Each test has an object store of its own."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "blobs")},
        },
    }
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"


@pytest.fixture
def owner(db: None) -> User:
    return make_person("owner")


@pytest.fixture
def reviewer(db: None) -> User:
    return make_person("reviewer")


@pytest.fixture
def contributor(db: None) -> User:
    return make_person("contributor")


@pytest.fixture
def stranger(db: None) -> User:
    return make_person("stranger")


@pytest.fixture
def staff(db: None) -> User:
    return make_person("staff", is_staff=True)


@pytest.fixture
def draft(owner: User, reviewer: User) -> Datanet:
    datanet = services.create_datanet(
        name="Items of the world",
        summary="Questions about items.",
        licence="CC-BY-4.0",
        description="**Items**, asked and answered.",
        rules="One item each.",
        tags=["items"],
        acting_user=owner,
        at=NOON,
    )
    Membership.objects.create(datanet=datanet, user=reviewer, role="REVIEWER")
    return datanet


@pytest.fixture
def published(draft: Datanet) -> Datanet:
    Datanet.objects.filter(pk=draft.pk).update(state="PUBLISHED", published_at=NOON)
    draft.refresh_from_db()
    return draft


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[Any], name: str = "items.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def submit(jsonl: Callable[..., Path]) -> Callable[..., Contribution]:
    """Submits rows as somebody, and runs what that asks of the workers."""

    def write(datanet: Datanet, user: User, *rows: dict[str, str]) -> Contribution:
        path = jsonl(list(rows), f"{user.handle}-{len(rows)}.jsonl")
        made = imports.import_file(datanet=datanet, path=path, acting_user=user, at=NOON)
        run_tasks()
        return made

    return write


@pytest.fixture
def submitted(published: Datanet, contributor: User, jsonl: Callable[..., Path]) -> Contribution:
    """Six pending records by the contributor."""
    return imports.import_file(
        datanet=published, path=jsonl(ROWS), acting_user=contributor, at=NOON
    )


@pytest.fixture
def accepted(submitted: Contribution, owner: User) -> Contribution:
    reviews.accept_records(datanet=submitted.datanet, acting_user=owner, at=NOON)
    return submitted


@pytest.fixture
def browser() -> Callable[[User | None], Client]:
    def sign_in(user: User | None = None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return sign_in


def run_tasks() -> int:
    """Do what the outbox asks of the ingest queue, as a worker would; return how many tasks."""
    count = 0
    while message := OutboxMessage.objects.filter(queue="ingest", sent_at=None).first():
        OutboxMessage.objects.filter(pk=message.pk).update(sent_at=NOON)
        getattr(tasks, message.task.rsplit(".", 1)[1])(*message.args)
        count += 1
    return count
