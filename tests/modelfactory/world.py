"""Actors, a Datanet with a version, and a base model that trains within seconds."""

import json
from datetime import UTC, datetime
from pathlib import Path

from accounts.models import User
from attribution.translog import canonical
from datanets.models import Contribution, Datanet, Membership, Record, Version
from datanets.services.versions import publish_version
from modelfactory.models import BaseModel
from modelfactory.services.bases import register_starter

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
STARTER = Path(__file__).resolve().parents[2] / "modelfactory" / "starter"
SMALL = {"epochs": 1, "batch_size": 4, "cutoff": 64, "rank": 2, "validation_fraction": 0.2}


def person(name: str, **extra: object) -> User:
    return User.objects.create_user(f"{name}@openledger.test", "secret-word-9", **extra)


def question(number: int) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": f"What is the {number}th colour of the house?"},
            {"role": "assistant", "content": f"Door {number} is painted in a warm grey."},
        ]
    }


def datanet(owner: User, *, slug: str = "colours", licence: str = "CC-BY-4.0") -> Datanet:
    made = Datanet.objects.create(
        slug=slug,
        name=slug.title(),
        summary="Colours of a house.",
        licence=licence,
        state="PUBLISHED",
        owner=owner,
        published_at=NOW,
    )
    Membership.objects.create(datanet=made, user=owner, role="OWNER")
    return made


def add_records(
    into: Datanet, contributor: User, payloads: list[dict[str, object]]
) -> list[Record]:
    contribution = Contribution.objects.create(
        datanet=into,
        submitter=contributor,
        state="SUBMITTED",
        name="rows.jsonl",
        size=1,
        licence=into.licence,
    )
    return [
        Record.objects.create(
            datanet=into,
            contribution=contribution,
            row=row,
            contributor=contributor,
            licence=into.licence,
            payload=payload,
            content_hash=canonical.sha256(payload),
            excerpt=json.dumps(payload)[:100],
            length=len(json.dumps(payload)),
            state="ACCEPTED",
            decided_at=NOW,
        )
        for row, payload in enumerate(payloads, 1)
    ]


def version(owner: User, *, records: int = 20, slug: str = "colours", **extra: str) -> Version:
    net = datanet(owner, slug=slug, **extra)
    add_records(net, owner, [question(n) for n in range(records)])
    return publish_version(datanet=net, acting_user=owner, at=NOW)


def starter() -> BaseModel:
    return register_starter(at=NOW)
