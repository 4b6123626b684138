"""Two models of two owners that a request may merge, and the receipt of such an answer."""

from __future__ import annotations

import json

import pytest
from django.utils import timezone
from safetensors.torch import load, save

from accounts import api_keys
from accounts.blobs import put_bytes, read_bytes
from accounts.models import Blob
from attribution import workers as attributing
from attribution.models import Receipt
from attribution.services.log import sequence
from datanets.services.versions import publish_version
from modelfactory.models import Model, Run, RunVersion
from serving import workers
from serving.errors import InvalidRequest, UnknownModel
from serving.models import Completion, Deployment, DeploymentState
from serving.openai_api import asking, bodies
from tests.attribution.world import World, payload
from tests.modelfactory.world import NOW, add_records, datanet, person
from tests.serving.conftest import beat


class Two:
    """A world with a second model: of another owner, on another Datanet, at another price."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.carol, self.other = person("carol"), person("other")
        house = datanet(person("second-owner"), slug="second")
        add_records(house, self.carol, [payload("gate", n) for n in range(12)])
        add_records(house, world.alice, [payload("wall", n) for n in range(12)])
        version = publish_version(datanet=house, acting_user=house.owner, at=NOW)
        self.first = world.model
        self.second = self.model("gates", self.other, version)
        beat("generate.tiny")
        self.base = self.deploy(None, "tiny", 10**12)
        self.one = self.deploy(self.first, "one", 3 * 10**12)
        self.two = self.deploy(self.second, "two", 2 * 10**12)

    def model(self, name: str, owner, version, **config) -> Model:
        run = Run.objects.create(
            builder=owner, name=name, state="SUCCEEDED", base_model=self.world.base,
            recipe={"cutoff": 64, "rank": 2}, held_out=[],
        )  # fmt: skip
        RunVersion.objects.create(run=run, version=version)
        weights = load(read_bytes(Blob.objects.get(sha256=self.first.adapter_sha256).pk))
        turned = save({key: one.flip(0).contiguous() for key, one in weights.items()})
        blob = put_bytes(turned, "application/octet-stream")
        return Model.objects.create(
            slug=f"{owner.handle}-{name}", name=name, run=run, owner=owner,
            base_model=self.world.base, state="PUBLISHED", adapter_sha256=blob.sha256,
            adapter_bytes=blob.size, adapter_config={**self.first.adapter_config, **config},
            manifest={}, manifest_sha256="1" * 64, stakers_bps=2_500,
        )  # fmt: skip

    def deploy(self, model: Model | None, name: str, price: int) -> Deployment:
        return Deployment.objects.create(
            name=name, base_model=self.world.base, model=model,
            owner=model.owner if model else None, state=DeploymentState.LIVE,
            input_price=price, output_price=2 * price,
        )  # fmt: skip

    def body(self, adapters, **changes) -> bodies.ChatBody:
        asked = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "What is gate number 3?"}],
            "max_tokens": 6,
            "temperature": 0,
            "adapters": adapters
            and [{"model": name, "weight": weight} for name, weight in adapters],
        }
        return bodies.read(json.dumps({**asked, **changes}).encode(), bodies.ChatBody)

    def ask(self, adapters, **changes) -> Completion:
        body = self.body(adapters, **changes)
        key, _ = api_keys.create_key(
            user=self.world.payer, name="merges", acting_user=self.world.payer, at=timezone.now()
        )
        (made,) = asking.start(
            key, body.model, asking.wishes(body), body.checked_sampling(), body.merge_wish()
        )
        return made

    def answered(self, adapters, **changes) -> Completion:
        made = self.ask(adapters, **changes)
        workers.run_completion(made.pk)
        made.refresh_from_db()
        return made

    def refused(self, adapters, **changes):
        with pytest.raises((InvalidRequest, UnknownModel)) as refusal:
            self.ask(adapters, **changes)
        assert not Completion.objects.exists()
        return refusal.value.parameter, refusal.value.message


def receipt_of(made: Completion) -> Receipt:
    """Indexes are asked for by the attribution itself; then it is done."""
    attribution = made_attribution(made)
    for _ in range(4):
        attributing.attribute(attribution.pk)
        for one in attributing.Index.objects.exclude(state="READY"):
            attributing.build_index(one.pk)
        attribution.refresh_from_db()
        if attribution.state == "DONE":
            break
    assert (attribution.state, attribution.failure_reason) == ("DONE", "")
    sequence(at=timezone.now())
    return Receipt.objects.get(attribution=attribution)


def made_attribution(made: Completion):
    return attributing.Attribution.objects.get(completion_id=made.pk)
