"""Completions that were answered and paid, each claimed by a worker that has scored it.

Everything that a receipt of a busy model has: eight contributors, twenty records, a sketch of as
many bytes as an index is wide, and a fee that waits in suspense.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.models import User
from attribution.bodies import Evidence, TopRecord
from attribution.models import Attribution
from attribution.reconciliation import check_tree
from attribution.services.receipts import split_as_json
from attribution.translog import canonical
from bench.ledger.captures import PRICE, SPLIT, hold_many
from datanets.models import Contribution, Datanet, Membership, Record
from datanets.services.versions import publish_version
from ledger import fees
from ledger.models import Account, Entry, Hold
from ledger.reconciliation import check_ledger
from ledger.services.holds import Capture, capture_many
from ledger.services.opening import accounts_for
from ledger.services.posting import Leg, Refs, post_entry
from modelfactory.models import BaseModel, Model, Run

CONTRIBUTORS, PAYERS, RECORDS, TOP = 8, 200, 160, 20
FUNDS = 10**24
AT_ONCE = 500
OWNER = "bench"
BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class World:
    """``works`` are claimed and wait for their receipts."""

    model: Model
    groups: list[str]
    records: list[tuple[UUID, UUID]]
    works: list[UUID]
    # Sketches differ in their first bytes; to draw whole ones would take the writers' time.
    noise: bytes
    body: dict[str, Any]

    def evidence(self, number: int) -> Evidence:
        """What scoring would have found of the answer ``number``; no two are alike."""
        chance = random.Random(number)
        return Evidence(
            index_root="ab" * 32,
            method={"method": "ekfac-lora", "version": 2, "parameters": {}},
            influences={name: chance.randrange(-(10**14), 10**15) for name in self.groups},
            counts=dict.fromkeys(self.groups, RECORDS // CONTRIBUTORS),
            records=[
                TopRecord(record, contributor, 10**12 - rank)
                for rank, (record, contributor) in enumerate(chance.sample(self.records, TOP))
            ],
            sketch=(chance.randbytes(16) + self.noise[16:])[: len(self.noise)],
        )


def make(count: int, sketch_bytes: int) -> World:
    """A published Datanet, a model of it, and ``count`` completions that wait."""
    people = _people(CONTRIBUTORS + PAYERS)
    authors, payers = people[:CONTRIBUTORS], people[CONTRIBUTORS:]
    net = Datanet.objects.create(
        slug="bench", name="Bench", summary="A benchmark's.", licence="CC-BY-4.0",
        state="PUBLISHED", owner=authors[0], published_at=BEGAN,
    )  # fmt: skip
    Membership.objects.create(datanet=net, user=authors[0], role="OWNER")
    records = _records(net, authors)
    version = publish_version(datanet=net, acting_user=authors[0], at=BEGAN)
    model = _model(authors[0])
    works: list[UUID] = []
    for first in range(0, count, AT_ONCE):
        works += _answered(model, payers, min(AT_ONCE, count - first))
    groups = [f"{author.pk}|{net.pk}|{version.pk}" for author in authors]
    body = {
        "schema": "openledger-attribution/4",
        "influence": {"groups": {name: str(10**14) for name in groups}},
        "shares": dict.fromkeys(groups, 10**9 // CONTRIBUTORS),
    }
    return World(model, groups, records, works, random.Random(0).randbytes(sketch_bytes), body)


def _people(count: int) -> list[User]:
    people = [
        User(email=f"{n}@bench.test", handle=f"bench-{n}", password="!") for n in range(count)
    ]
    User.objects.bulk_create(people)
    earnings = accounts_for(Account.Kind.EARNINGS, [one.pk for one in people])
    gateway = accounts_for(Account.Kind.GATEWAY, [None])[None]
    legs = [Leg(earnings[one.pk], FUNDS) for one in people]
    post_entry(
        kind=Entry.Kind.DEPOSIT,
        key="bench:funds",
        at=timezone.now(),
        legs=[*legs, Leg(gateway, -FUNDS * count)],
    )
    return people


def _records(net: Datanet, authors: Sequence[User]) -> list[tuple[UUID, UUID]]:
    found = []
    for author in authors:
        contribution = Contribution.objects.create(
            datanet=net, submitter=author, state="SUBMITTED", name="rows.jsonl", size=1,
            licence=net.licence,
        )  # fmt: skip
        for row in range(RECORDS // CONTRIBUTORS):
            payload = {"text": f"Row {row} of {author.handle}."}
            record = Record.objects.create(
                datanet=net, contribution=contribution, row=row + 1, contributor=author,
                licence=net.licence, payload=payload, content_hash=canonical.sha256(payload),
                excerpt=payload["text"], length=len(json.dumps(payload)), state="ACCEPTED",
                decided_at=BEGAN,
            )  # fmt: skip
            found.append((record.pk, author.pk))
    return found


def _model(owner: User) -> Model:
    base = BaseModel.objects.create(
        slug="bench", name="Bench", folder="/none", state="READY", context_length=128, origin="-"
    )
    run = Run.objects.create(
        builder=owner, name="run", state="SUCCEEDED", base_model=base, recipe={}
    )
    return Model.objects.create(
        slug="bench-run", name="Run", run=run, owner=owner, base_model=base, state="PUBLISHED",
        adapter_sha256="0" * 64, adapter_config={}, manifest={}, manifest_sha256="0" * 64,
    )  # fmt: skip


def _answered(model: Model, payers: Sequence[User], count: int) -> list[UUID]:
    now = timezone.now()
    holds = hold_many(payers, count)
    captures = [
        Capture(
            hold, PRICE, fees.from_json(hold.terms or {}), Refs(model=model.pk, completion=cause)
        )
        for hold in holds
        if (cause := hold.cause_id)
    ]
    capture_many(captures=captures, acting_user=None, at=now)
    made = Attribution.objects.bulk_create(_claimed(model, hold) for hold in holds)
    return [one.pk for one in made]


def _claimed(model: Model, hold: Hold) -> Attribution:
    return Attribution(
        completion_id=hold.cause_id, model=model, payer_id=hold.payer_id,
        state=Attribution.State.RUNNING, lease_owner=OWNER,
        prompt_ids=[1] * 24, answer_ids=[2] * 64, prompt="What stands here?", answer="A row.",
        prompt_tokens=24, completion_tokens=64, fee=PRICE, input_price=10**13,
        output_price=10**13, split=split_as_json(SPLIT), terms=hold.terms,
    )  # fmt: skip


def wrong() -> int:
    """How many comparisons of ledger and log differ after all that."""
    return sum(not finding.holds for finding in (*check_ledger(), *check_tree()))
