"""Whether replayed steps say what the same steps say without, and sooner; else they are left out.

Tried when an engine starts, since what a driver, a kernel or a model does in a capture is known
after it alone: rows with different adapters, which change between two replays.
"""

from __future__ import annotations

import logging
import time

import numpy as np
import torch

from serving.engine.adapters import Adapter, LoraWeights
from serving.engine.backend import Batch
from serving.engine.module import ModuleBackend

logger = logging.getLogger(__name__)

ROWS, PROMPT, RANK = 3, 12, 8
TIMES = 8
# Of the largest logit. Padding lets other kernels round elsewhere; another row's adapter, token or
# page is wrong by far more.
TOLERANCES = {torch.float32: 1e-3}
HALF_TOLERANCE = 5e-2


def settle(backend: ModuleBackend) -> None:
    """Switch the backend's graphs off where they are wrong, slower, or not to be had."""
    graphs = backend.graphs
    if graphs is None:
        return
    try:
        off, replayed, plain = trial(backend)
    except Exception:
        logger.warning("steps are not replayed: the trial failed", exc_info=True)
        backend.graphs = None
        return
    finally:
        for slot in range(_rows(backend)):
            backend.free(slot)
        backend.lora.forget()
    logger.info("graphs: off by %.1e, %.2f ms; without: %.2f ms", off, replayed * 1e3, plain * 1e3)
    right = off <= TOLERANCES.get(backend.dtype, HALF_TOLERANCE)
    if not (right and replayed < plain and graphs.captured.graphs):
        logger.warning("steps are not replayed: that is wrong or slower")
        backend.graphs = None


def trial(backend: ModuleBackend) -> tuple[float, float, float]:
    """(how far off the largest logit, seconds of a replayed step, seconds without)."""
    graphs, rows = backend.graphs, _rows(backend)
    made = [adapter_of(backend, seed) for seed in range(2)] if backend.replays_adapters else []
    kinds: list[Adapter | None] = [*made, None]
    random = np.random.default_rng(5)
    tokens = random.integers(0, backend.vocabulary_size, (rows, PROMPT + 2), np.int32)
    off = 0.0
    for step in range(3):
        for row in range(rows):
            backend.place(row, [row], kinds[(row + step) % len(kinds)])
        if step == 0:
            backend.forward(_batch(tokens, 0, PROMPT))
            continue
        batch = _batch(tokens, PROMPT + step - 1, 1)
        backend.graphs = None
        expected = backend.forward(batch)
        backend.graphs = graphs
        found = backend.forward(batch)
        worst = float((found - expected).abs().max() / expected.abs().max())
        off = max(off, worst) if worst == worst else float("inf")  # no number is no answer
    replayed = _seconds(backend, batch)
    backend.graphs = None
    plain = _seconds(backend, batch)
    backend.graphs = graphs
    return off, replayed, plain


def _rows(backend: ModuleBackend) -> int:
    return min(ROWS, backend.slots, backend.page_count)


def adapter_of(backend: ModuleBackend, seed: int) -> Adapter:
    """A random one on every linear layer, as strong as the layer is."""
    random = torch.Generator().manual_seed(seed)
    layers = {}
    for name, linear in backend.linears.items():
        down = torch.randn((RANK, linear.inputs), generator=random) * linear.inputs**-0.5
        up = torch.randn((linear.outputs, RANK), generator=random) * linear.outputs**-0.5
        layers[name] = LoraWeights(down.bfloat16(), up.bfloat16(), 1.0, None)
    return Adapter(f"trial {seed}", RANK, layers, 0)


def _batch(
    tokens: np.ndarray[tuple[int, ...], np.dtype[np.int32]], start: int, count: int
) -> Batch:
    rows = len(tokens)
    return Batch(
        np.ascontiguousarray(tokens[:, start : start + count]).ravel(),
        np.tile(np.arange(start, start + count, dtype=np.int32), rows),
        np.repeat(np.arange(rows, dtype=np.int32), count),
        np.arange(count - 1, rows * count, count, dtype=np.int32),
    )


def _seconds(backend: ModuleBackend, batch: Batch) -> float:
    """The fastest: what else the machine does only adds. Logits are on the CPU when it ends."""
    found = []
    for _ in range(TIMES):
        started = time.perf_counter()
        backend.forward(batch)
        found.append(time.perf_counter() - started)
    return min(found)
