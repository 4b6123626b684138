"""A published Datanet of two contributors, a model that was trained on it, and paid answers."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from accounts.blobs import put_file
from accounts.ids import uuid7
from accounts.models import OutboxMessage
from attribution import workers
from attribution.models import Attribution, Index, Receipt
from attribution.services import indexes
from attribution.services.log import sequence
from attribution.services.receipts import request_attribution
from datanets.services.versions import publish_version
from ledger.fees import Terms
from ledger.services.holds import Refs, capture_hold, open_hold
from ledger.splits import Part, Split
from modelfactory.models import BaseModel, Model, Run, RunVersion
from modelfactory.training.prompts import load_tokenizer, render_prompt
from tests.ledger.books import OPEN, fund
from tests.modelfactory.world import NOW, STARTER, add_records, datanet, person

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SPLIT = Split(
    1,
    (
        Part("platform", 1000),
        Part("model_owner", 2000),
        Part("stakers", 2000),
        Part("contributors", 5000),
    ),
)
INPUT_PRICE, OUTPUT_PRICE = 10**13 + 1, 3 * 10**13 + 7


def tiny_base_and_adapter(folder: Path) -> tuple[Path, Path]:
    """A random Llama with the starter's tokenizer, and a random adapter."""
    import shutil

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4096,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=0.2,
        )
    )
    base.save_pretrained(folder / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STARTER / name, folder / "base" / name)
    adapted = get_peft_model(
        base,
        LoraConfig(
            r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
        ),
    )
    adapted.save_pretrained(str(folder / "adapter"))
    return folder / "base", folder / "adapter"


def payload(topic: str, number: int) -> dict:
    return {
        "messages": [
            {"role": "user", "content": f"What is {topic} number {number}?"},
            {"role": "assistant", "content": f"The {topic} {number} is a {topic} of the house."},
        ]
    }


class World:
    """Everybody and everything; `folders` are of `tiny_base_and_adapter`."""

    def __init__(self, folders: tuple[Path, Path]) -> None:
        self.owner, self.alice, self.bob = person("owner"), person("alice"), person("bob")
        self.builder, self.payer, self.stranger = (
            person("builder"),
            person("payer"),
            person("stranger"),
        )
        self.staff = person("staff", is_staff=True)
        fund(self.payer, OPEN)
        self.datanet = datanet(self.owner)
        self.records = [
            *add_records(self.datanet, self.alice, [payload("door", n) for n in range(12)]),
            *add_records(self.datanet, self.bob, [payload("window", n) for n in range(12)]),
        ]
        self.version = publish_version(datanet=self.datanet, acting_user=self.owner, at=NOW)
        self.base = BaseModel.objects.create(
            slug="tiny",
            name="Tiny",
            folder=str(folders[0]),
            state="READY",
            context_length=128,
            origin=str(folders[0]),
        )
        self.model = self._model(folders[1])

    def _model(self, adapter: Path) -> Model:
        run = Run.objects.create(
            builder=self.builder,
            name="run",
            state="SUCCEEDED",
            base_model=self.base,
            recipe={"cutoff": 64, "rank": 2},
            held_out=[str(self.records[0].pk)],
        )
        RunVersion.objects.create(run=run, version=self.version)
        blob = put_file(adapter / "adapter_model.safetensors", "application/octet-stream")
        return Model.objects.create(
            slug="builder-run",
            name="Run",
            run=run,
            owner=self.builder,
            base_model=self.base,
            state="PUBLISHED",
            adapter_sha256=blob.sha256,
            adapter_bytes=blob.size,
            adapter_config=json.loads((adapter / "adapter_config.json").read_text()),
            manifest={},
            manifest_sha256="0" * 64,
        )

    def another_model(self) -> Model:
        """The same adapter and records under another name."""
        twin = Model.objects.get(pk=self.model.pk)
        run = Run.objects.get(pk=twin.run_id)
        run.pk = uuid7()
        run.save(force_insert=True)
        RunVersion.objects.create(run=run, version=self.version)
        twin.pk, twin.slug, twin.run = uuid7(), "twin", run
        twin.save(force_insert=True)
        return twin

    def build_index(self) -> Index:
        index = indexes.request_index(model_id=self.model.pk, acting_user=None, at=NOON)
        workers.build_index(index.pk)
        index.refresh_from_db()
        return index

    def ask(
        self,
        answer: str = "The door 3 is a door of the house.",
        *,
        model: Model | None = None,
        base_only: bool = False,
        terms: Terms | None = None,
    ) -> Attribution:
        """A completion that was paid for; its attribution waits."""
        model = None if base_only else model or self.model
        tokenizer = load_tokenizer(STARTER)
        prompt = "What is door number 3?"
        prompt_ids = render_prompt([{"role": "user", "content": prompt}], tokenizer)
        answer_ids = tokenizer.encode(answer) if answer else []
        fee = len(prompt_ids) * INPUT_PRICE + len(answer_ids) * OUTPUT_PRICE
        completion = uuid7()
        terms = terms or Terms.of_split(SPLIT, model.owner_id if model else None)
        hold = open_hold(
            payer=self.payer,
            amount=fee,
            cause_kind="completion",
            cause_id=completion,
            terms=terms,
            expires_at=NOON + timedelta(hours=1),
            acting_user=self.payer,
            at=NOON,
        )
        capture_hold(
            hold=hold,
            amount=fee,
            terms=terms,
            refs=Refs(model=model.pk if model else None, completion=completion),
            acting_user=None,
            at=NOON,
        )
        return request_attribution(
            completion_id=completion,
            model_id=model.pk if model else None,
            prompt_ids=prompt_ids,
            answer_ids=answer_ids,
            prompt=prompt,
            answer=answer,
            fee=fee,
            split=SPLIT,
            terms=terms,
            input_price=INPUT_PRICE,
            output_price=OUTPUT_PRICE,
            at=NOON,
        )

    def receipt(self, **asked) -> Receipt:
        """An answer all the way into the log."""
        attribution = self.ask(**asked)
        workers.attribute(attribution.pk)
        sequence(at=NOON)
        return Receipt.objects.get(attribution=attribution)


def queued(task: str) -> list[list]:
    """Arguments of the unsent messages to `attribution.tasks.<task>`."""
    return [
        message.args
        for message in OutboxMessage.objects.filter(
            task=f"attribution.tasks.{task}", sent_at__isnull=True
        )
    ]
