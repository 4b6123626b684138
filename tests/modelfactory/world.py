"""Actors, a Datanet with a version, and a base model that trains within seconds."""

import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from accounts import leases
from accounts.models import User
from attribution.translog import canonical
from datanets.models import Contribution, Datanet, Membership, Record, Version
from datanets.services.versions import publish_version
from modelfactory.models import BaseModel, Model, Run
from modelfactory.services.bases import register_starter

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
STARTER = Path(__file__).resolve().parents[2] / "modelfactory" / "starter"
SMALL = {"epochs": 1, "batch_size": 4, "cutoff": 64, "rank": 2, "validation_fraction": 0.2}


def person(name: str, **extra: object) -> User:
    return User.objects.create_user(f"{name}@openledger.test", "secret-word-9", **extra)


def question(number: int, thing: str = "house") -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": f"What is the {number}th colour of the {thing}?"},
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
    # Of each Datanet its own, or they would be near-duplicates of each other.
    thing = "house" if slug == "colours" else slug
    add_records(net, owner, [question(n, thing) for n in range(records)])
    return publish_version(datanet=net, acting_user=owner, at=NOW)


def starter() -> BaseModel:
    return register_starter(at=NOW)


def made_model(run: Run, *, owner: str = "worker") -> Model:
    """The model that a worker would make of `run`, without the training."""
    from modelfactory.services import publishing, runs

    runs.start_run(run=run, acting_user=run.builder, at=NOW)
    leases.claim(Run, run.pk, from_states=["QUEUED"], to_state="RUNNING", owner=owner, at=NOW)
    run.refresh_from_db()
    folder = Path(tempfile.mkdtemp())
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter" / "adapter_config.json").write_text('{"r": 2, "peft_type": "LORA"}')
    held_out = [str(run.versions.first().entries.first().record_id)]
    (folder / "split.json").write_text(json.dumps({"held_out": held_out, "findings": []}))
    answers = {
        "count": 0,
        "exact_match_before": 0.0,
        "exact_match_after": 0.0,
        "rouge_l_before": 0.0,
        "rouge_l_after": 0.0,
        "samples": [],
    }
    evaluation = {
        "held_out_records": 1,
        "held_out_tokens": 9,
        "loss_before": 3.5,
        "loss_after": 2.25,
        "perplexity_before": 33.1,
        "perplexity_after": 9.5,
        "answers": answers,
    }
    result = {
        "evaluation": evaluation,
        "steps": 4,
        "tokens": 100,
        "seconds": 1.5,
        "tokens_per_second": 66.7,
        "memory_bytes": 1000,
    }
    (folder / "result.json").write_text(json.dumps(result))
    model = publishing.complete(run=run, folder=folder, owner=owner, at=NOW)
    shutil.rmtree(folder)
    assert model is not None
    return model
