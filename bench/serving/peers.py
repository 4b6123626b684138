"""The peers: each decodes `batch` rows, some steps at a time, from a prompt of stated length."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import torch

from bench.serving.shape import VOCABULARY
from serving.engine import scheduler as scheduling
from serving.engine.backend import Backend
from serving.engine.base import Base
from serving.engine.row import Row
from serving.engine.scheduler import Scheduler
from serving.engine.types import EngineError, Request


class Peer(Protocol):
    def begin(self, prompts: torch.Tensor, room: int) -> None:
        """Take in the prompts (rows, tokens), with room for as many more tokens."""

    def steps(self, count: int) -> float:
        """Decode; seconds."""


class Transformers:
    """Its decode step: DynamicCache, sdpa, the likeliest token."""

    def __init__(self, model: Any, **options: Any) -> None:
        self.model, self.options = model, options

    def begin(self, prompts: torch.Tensor, room: int) -> None:
        from transformers import DynamicCache

        self.cache = DynamicCache(config=self.model.config)
        self.tokens = self._forward(prompts)

    def steps(self, count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            self.tokens = self._forward(self.tokens)
        return time.perf_counter() - began

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            result = self.model(
                input_ids=ids,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
                **self.options,
            )
            self.logits = result.logits[:, -1]
            return self.logits.argmax(-1, keepdim=True)


def mixed_peft(model: Any, folders: list[Path]) -> Transformers:
    """PEFT's mixed batch: each row another adapter."""
    from peft import PeftModel

    names = [f"adapter{place}" for place in range(len(folders))]
    peft = PeftModel.from_pretrained(model, folders[0], adapter_name=names[0])
    for name, folder in zip(names[1:], folders[1:], strict=True):
        peft.load_adapter(folder, adapter_name=name)
    return Transformers(peft.eval(), adapter_names=names)


class Ours:
    """The engine's own turns, from scheduling to the pieces of text in each row's queue."""

    def __init__(self, backend: Backend, base: Base, adapters: list[str]) -> None:
        self.backend: Any = backend  # a native one has a switch more
        self.base, self.adapters = base, adapters
        self.scheduler: Scheduler | None = None

    def begin(self, prompts: torch.Tensor, room: int) -> None:
        if self.scheduler is not None:
            self.scheduler.fail_all(EngineError("The next round begins."))
        self.scheduler = scheduler = Scheduler(self.backend, self.base, len(prompts))
        for place, prompt in enumerate(prompts.tolist()):
            name = self.adapters[place] if self.adapters else None
            request = Request(
                str(place), tuple(prompt), name, room, 0.0, ignore_end=True, owner=str(place)
            )
            adapter = self.backend.adapter(name) if name else None
            row = Row(request, adapter, self.base.vocabulary, self.base.context)
            scheduler.rows[str(place)] = row
            scheduler.waiting.push(row)
        # All prompts in one turn, as the peers take them, so that contexts stay the same.
        plain, scheduling.PREFILL_ALONE = scheduling.PREFILL_ALONE, prompts.numel()
        with torch.inference_mode():
            scheduler.turn()
        scheduling.PREFILL_ALONE = plain
        assert len(scheduler.decoding) == len(prompts)

    def steps(self, count: int) -> float:
        assert self.scheduler is not None
        with torch.inference_mode():
            began = time.perf_counter()
            for _ in range(count):
                self.scheduler.turn()
            return time.perf_counter() - began


def prompts_of(batch: int, length: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(batch * 1000 + length)
    return torch.randint(0, VOCABULARY, (batch, length), generator=random)
