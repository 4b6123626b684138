"""The peers: each decodes `batch` rows, some steps at a time, from a prompt of stated length."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from bench import report
from bench.serving.shape import VOCABULARY
from serving.engine import scheduler as scheduling
from serving.engine.backend import Backend, Batch
from serving.engine.base import Base
from serving.engine.row import Row
from serving.engine.scheduler import Scheduler
from serving.engine.types import EngineError, Request

STEPS = 8  # of a peer's turn
BASE, ADAPTED, HUGGING, PEFT = (
    "engine, base",
    "engine, adapters",
    "transformers, base",
    "PEFT mixed",
)


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


def no_wait() -> None:
    """For peers that have finished when they return."""


def take_turns(
    peers: Mapping[str, Peer],
    prompts: torch.Tensor,
    rounds: int,
    wait: Callable[[], None] = no_wait,
) -> dict[str, list[float]]:
    """Seconds of STEPS steps, round by round; every peer starts again after 64 tokens."""
    found: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds):
        if number % (64 // STEPS) == 0:
            for peer in peers.values():
                peer.begin(prompts, 64 + 2)
        order = list(peers) if number % 2 == 0 else list(reversed(list(peers)))
        for name in order:
            wait()
            began = time.perf_counter()
            peers[name].steps(STEPS)
            wait()
            found[name].append(time.perf_counter() - began)
        rows, context = prompts.shape
        sys.stderr.write(f"  batch {rows} from {context}: round {number + 1}/{rounds}\n")
    return found


def faster(seconds: Mapping[str, list[float]], ours: str, peer: str) -> float:
    """The median of the rounds' ratios."""
    return report.ratio(seconds[peer], seconds[ours])


def tell(
    result: report.Report, place: str, batch: int, seconds: Mapping[str, list[float]], *, bars: bool
) -> None:
    """Rates of all peers at one batch, and the ratios that the bars speak of."""
    for name, each in seconds.items():
        rate = batch * STEPS / statistics.median(each)
        result.add(f"{place}: {name}", rate, "tokens/s")
    limits: dict[tuple[str, str], float | None] = {
        (BASE, HUGGING): 1.45 if batch == 8 else 1.35,
        (ADAPTED, BASE): 0.90 if batch == 8 else 0.85,
        (ADAPTED, HUGGING): None if batch == 8 else 1.2,
        (ADAPTED, PEFT): None if batch == 8 else 6.0,
    }
    for (ours, peer), bar in limits.items():
        if peer in seconds:
            ratio = faster(seconds, ours, peer)
            result.add(f"{place}: {ours} / {peer}", ratio, "x", at_least=bar if bars else None)


def heard(ours: Ours, prompts: torch.Tensor, steps: int) -> list[torch.Tensor]:
    """Logits (rows, vocabulary) of the prompts' ends and of each step after them."""
    seen: list[torch.Tensor] = []
    plain = ours.backend.forward

    def watched(given: Batch) -> torch.Tensor:
        seen.append(plain(given))
        return seen[-1]

    ours.backend.forward = watched
    try:
        ours.begin(prompts, steps + 2)
        ours.steps(steps)
    finally:
        del ours.backend.forward
    return seen


def off(ours: Ours, peer: Transformers, prompts: torch.Tensor) -> float:
    """The largest difference of the first logits, as a part of the largest logit."""
    (mine,) = heard(ours, prompts.cpu(), 0)
    peer.begin(prompts, 2)
    theirs = peer.logits.float().cpu()
    return float((mine - theirs).abs().max() / theirs.abs().max())


def resident(
    result: report.Report,
    off: Ours,
    on: Ours,
    pairs: int,
    *,
    batch: int = 32,
    count: int = 64,
    bars: bool = True,
) -> None:
    """Base rows through the path of adapters (`on`) beside none at all (`off`)."""
    prompts = prompts_of(batch, 32)
    ratios = []
    for pair in range(pairs):
        if pair % 20 == 0:
            off.begin(prompts, 64)
            on.begin(prompts, 64)
        if pair % 2:
            there, without = on.steps(2), off.steps(2)
        else:
            without, there = off.steps(2), on.steps(2)
        ratios.append(without / there)
    random = np.random.default_rng(1)
    drawn = np.median(random.choice(ratios, (2_000, len(ratios))), axis=1)
    name = f"base rows, {count} adapters resident / feature off"
    result.add(name, statistics.median(ratios), "x", at_least=0.99 if bars else None)
    lower = float(np.quantile(drawn, 0.025))
    result.add(f"{name}, lower end", lower, "x", at_least=0.97 if bars else None)


def alone(
    result: report.Report,
    engine: Ours,
    read: int,
    matrix: torch.Tensor,
    rounds: int,
    wait: Callable[[], None] = no_wait,
    *,
    bar: float | None = 0.65,
) -> None:
    """One row, which reads `read` bytes, against what the memory gives a matrix times a vector."""
    vector = torch.ones(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    ratios, speeds = [], []
    for number in range(rounds):
        if number % 8 == 0:
            engine.begin(prompts_of(1, 32), 66)
        wait()
        began = time.perf_counter()
        for _ in range(STEPS):
            torch.mv(matrix, vector)
        wait()
        plain = matrix.nbytes * STEPS / (time.perf_counter() - began)
        ratios.append(read * STEPS / engine.steps(STEPS) / plain)
        speeds.append(plain)
    result.add("memory to a matrix times a vector", statistics.median(speeds) / 1e9, "GB/s")
    result.add("batch 1 / that", statistics.median(ratios), "x", at_least=bar)
