"""Which backend serves a base: the native step where it is right and faster, else transformers."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serving.engine import graph_trial, lora_triton, quality
from serving.engine.backend import Backend, Batch
from serving.engine.graphs import Capture, CudaCapture
from serving.engine.module import PAGE, ModuleBackend, page_bytes
from serving.engine.native.backend import NativeBackend
from serving.engine.native.build import library
from serving.engine.native.build import name as build_name
from serving.engine.native.program import NotLlamaLike, read_program
from serving.engine.quality import Texts

logger = logging.getLogger(__name__)

PROBE = 24  # tokens
TOLERANCE = 1e-4  # of the largest logit; another rotation or norm is wrong by far more


@dataclass(frozen=True, slots=True)
class Needs:
    """What a backend is made for; `cache_bytes` is the most that keys and values may take."""

    slots: int
    context: int
    threads: int
    cache_bytes: int
    store: Path
    warm_bytes: int
    max_adapters: int
    base_sha256: str | None
    # The base's own evaluation; with it the weights are kept in 8 bits where that changes little.
    int8: Texts = ()
    graphs: bool = True

    def pages(self, size: int) -> int:
        """Of `size` bytes: room for all slots, at most the budget, at least one whole row."""
        row = -(-self.context // PAGE)
        return max(row, min(self.slots * row, self.cache_bytes // size))


def choose(model: Any, needs: Needs, wanted: str | None = None) -> Backend:
    """`wanted` is "native" or "transformers"; None takes what is best.

    Raises ValueError where "native" is wanted and cannot be had.
    """
    weights = next(model.parameters())
    device, dtype = weights.device, weights.dtype
    with torch.inference_mode():
        plain = ModuleBackend(
            model,
            slots=needs.slots,
            context=needs.context,
            pages=needs.pages(page_bytes(model)),
            max_adapters=needs.max_adapters,
            base_sha256=needs.base_sha256,
            kernel=lora_triton.chosen(device, dtype),
            capture=capture_of(device) if needs.graphs else None,
        )
        graph_trial.settle(plain)
        if wanted == "transformers":
            return plain
        try:
            native = native_of(model, needs)
        except NotLlamaLike as reason:
            if wanted == "native":
                raise ValueError(f"The native step does not serve this base: {reason}") from reason
            logger.info("transformers computes the base: %s", reason)
            return plain
        if not _is_better(native, plain, needs, wanted):
            return plain
        return _in_bytes(model, native, needs) if needs.int8 else native


def capture_of(device: torch.device) -> Capture | None:
    return CudaCapture(device) if device.type == "cuda" else None


def _in_bytes(model: Any, native: NativeBackend, needs: Needs) -> NativeBackend:
    """The same in 8 bits, where its quality passes; else `native`. Costs the evaluation, once."""
    try:
        small = native_of(model, needs, int8=True)
    except NotLlamaLike as reason:
        logger.warning("the base stays in float32: %s", reason)
        return native
    about = {
        "base": needs.base_sha256 or "",
        "texts": quality.digest(needs.int8),
        "library": build_name(),
    }
    file = needs.store / "int8.json"
    found = quality.kept(file, about) if needs.base_sha256 else None
    if found is None:
        found = quality.compare(native, small, needs.int8, needs.context)
        quality.keep(file, about, found)
    said = f"perplexity x {found.perplexity:.4f}, {found.agreement:.2%} the same best tokens"
    if not found.passes:
        logger.warning("the base stays in float32: in 8 bits %s", said)
        small.close()
        return native
    logger.info("the base is kept in 8 bits: %s", said)
    native.close()
    return small


def native_of(model: Any, needs: Needs, *, int8: bool = False) -> NativeBackend:
    """Without any check. Raises NotLlamaLike."""
    found = library()
    if found is None:
        raise NotLlamaLike("the native step is not built on this machine.")
    if int8 and not found.openledger_int8():
        raise NotLlamaLike("this processor has no products of bytes (AVX-512 VNNI).")
    program = read_program(model, needs.context, int8=int8)
    size = 2 * 4 * program.model.kv_heads * program.model.size * PAGE * program.layers
    return NativeBackend(
        found,
        program,
        needs.store,
        slots=needs.slots,
        context=needs.context,
        pages=needs.pages(size),
        threads=needs.threads,
        warm_bytes=needs.warm_bytes,
        base_sha256=needs.base_sha256,
        kind="native, 8 bits" if int8 else "native",
    )


def _is_better(
    native: NativeBackend, plain: ModuleBackend, needs: Needs, wanted: str | None
) -> bool:
    """Compares logits of a prompt, then the time of a step. Raises ValueError, as `choose`."""
    length = min(PROBE, needs.context)
    prompt = np.random.default_rng(7).integers(0, native.vocabulary_size, length, np.int32)
    places = np.arange(length, dtype=np.int32)
    batch = Batch(prompt, places, np.zeros(length, np.int32), places)
    pages = list(range(-(-length // PAGE)))
    answers = []
    for backend in (native, plain):
        backend.place(0, pages, None)
        answers.append(backend.forward(batch))
    off = float((answers[0] - answers[1]).abs().max() / answers[1].abs().max())
    if not off <= TOLERANCE:
        if wanted == "native":
            raise ValueError(f"The native step is off by {off:.1e} on this base.")
        logger.warning("transformers computes the base: the native step is off by %.1e", off)
        return False
    one = Batch(prompt[-1:], places[-1:], batch.slots[-1:], np.zeros(1, np.int32))
    times = {backend.kind: _seconds(backend, one) for backend in (native, plain)}
    logger.info("a step takes %s", ", ".join(f"{k} {1e3 * v:.1f} ms" for k, v in times.items()))
    return wanted == "native" or times["native"] < times["transformers"]


def _seconds(backend: Backend, batch: Batch) -> float:
    """The fastest of a few steps: what else the machine does only adds."""
    found = []
    for _ in range(3):
        started = time.perf_counter()
        backend.forward(batch)
        found.append(time.perf_counter() - started)
    return min(found)
