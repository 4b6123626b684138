"""A log of its own for each test: fixtures and shorthand of the log's tests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from pytest_django import Settings

from attribution.models.log import Checkpoint
from attribution.services import anchoring, log
from ledger.models import Intent

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ORIGIN = "ledger.test/log"


@pytest.fixture
def own_store(settings: Settings, tmp_path: Path) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "store")},
        },
    }
    settings.LOG_KEY_PATH = tmp_path / "keys" / "log.ed25519"
    settings.LOG_ORIGIN = ORIGIN
    settings.CHAIN_ENABLED = False


def body_of(receipt_id: UUID) -> dict[str, Any]:
    return {"id": str(receipt_id), "fee": "1000"}


def append(count: int) -> list[UUID]:
    ids = [uuid4() for _ in range(count)]
    for receipt_id in ids:
        log.append_receipt(receipt_id=receipt_id, body=body_of(receipt_id), at=NOON)
    return ids


def signed(count: int) -> tuple[list[UUID], Checkpoint]:
    ids = append(count)
    head = log.sequence(at=NOON)
    assert head
    return ids, head


@pytest.fixture
def intents(monkeypatch: pytest.MonkeyPatch) -> list[Intent]:
    """What the ledger was asked to anchor, as intents that it wrote."""
    asked: list[Intent] = []

    def request_anchor(**values: Any) -> Intent:
        intent = Intent.objects.create(
            kind=Intent.Kind.ANCHOR,
            key=f"anchor:{values['sequence']}",
            chain_id=31337,
            to="0x" + "0" * 40,
            data=values["root"],
            cause_kind="checkpoint",
            cause_id=values["cause_id"],
        )
        asked.append(intent)
        return intent

    monkeypatch.setattr(anchoring.chain, "request_anchor", request_anchor)
    return asked


def settle(intent: Intent, state: str) -> None:
    intent.state = state
    with transaction.atomic():
        anchoring.anchor_changed(intent, NOON)
