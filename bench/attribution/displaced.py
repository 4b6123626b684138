"""Answers' losses about an adapter: where it is moved by a step, how they bend along the step.

Steps are in the whitened eigenbasis of an index's factors, (steps, dimension): ``u`` moves the
adapter by ``(F + damping)^-1/2 u``. Slopes and second derivatives are central differences.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from attribution.influence.checkpoints import adapter_parameters
from attribution.influence.curvature import Factors
from attribution.influence.examples import IndexedExample
from attribution.influence.gradients import make_batch
from attribution.influence.model import AdaptedModel, Checkpoint
from attribution.influence.scorer import Scorer
from bench.attribution import training

Doubles = NDArray[np.float64]
REACH = 0.01  # of a step, for the central differences


@dataclass(frozen=True, slots=True)
class Around:
    """Along each step, (queries, sets): the loss's slope, ``u H u / 2`` by its Hessian and by its
    Gauss-Newton part, and the CPU seconds of it all."""

    slope: Doubles
    hessian: Doubles
    gauss_newton: Doubles
    seconds: float


def around_steps(
    scorer: Scorer, queries: Sequence[IndexedExample], steps: NDArray[np.float32]
) -> Around:
    began = time.process_time()
    rows = torch.tensor([n for n, query in enumerate(queries) for _ in range(_targets(query))])
    here, here_logits = asked(scorer, queries, None)
    odds = here_logits.softmax(-1)
    slopes, hessians, gauss_newtons = [], [], []
    for step in steps:
        after, after_logits = asked(scorer, queries, REACH * step)
        before, before_logits = asked(scorer, queries, -REACH * step)
        slopes.append((after - before) / (2 * REACH))
        hessians.append((after + before - 2 * here) / (2 * REACH**2))
        change = (after_logits - before_logits) / (2 * REACH)  # (targets, vocabulary)
        mean = (odds * change).sum(-1)
        each = ((odds * change.square()).sum(-1) - mean.square()).double() / 2
        column = torch.zeros(len(here), dtype=torch.float64).index_add(0, rows, each).numpy()
        gauss_newtons.append(column)
    slope, hessian, gauss_newton = (
        np.stack(columns, axis=1) for columns in (slopes, hessians, gauss_newtons)
    )
    return Around(slope, hessian, gauss_newton, time.process_time() - began)


def asked(
    scorer: Scorer, queries: Sequence[IndexedExample], step: NDArray[np.float32] | None
) -> tuple[Doubles, Tensor]:
    """Losses of all queries with the adapter moved by a step, and logits of all their targets,
    (targets, vocabulary)."""
    losses = torch.zeros(len(queries), dtype=torch.float64)
    every = []
    with at_step(scorer, step), torch.inference_mode():
        for begin in range(0, len(queries), training.BATCH):
            batch = make_batch(queries[begin : begin + training.BATCH], training.CPU)
            causal = scorer.model.network.get_base_model()  # type: ignore[operator]
            states = causal.model(input_ids=batch.ids, use_cache=False).last_hidden_state
            wanted = batch.targets[:, 1:] > 0
            logits = causal.lm_head(states[:, :-1][wanted])
            told = cross_entropy(logits, batch.ids[:, 1:][wanted], reduction="none").double()
            losses.index_add_(0, begin + wanted.nonzero()[:, 0], told)
            every.append(logits)
    return losses.numpy(), torch.cat(every)


def _targets(query: IndexedExample) -> int:
    return sum(query.loss_mask[1:])


@contextmanager
def at_step(scorer: Scorer, step: NDArray[np.float32] | None) -> Iterator[None]:
    """The adapter moved by a step in the whitened eigenbasis."""
    model = scorer.model
    moved = None if step is None else Checkpoint("", 1.0, moved_by(model, scorer.factors, step))
    with replace(model, at=moved).standing():
        yield


def moved_by(model: AdaptedModel, factors: Factors, step: NDArray[np.float32]) -> dict[str, Tensor]:
    """The adapter's parameters plus ``(F + damping)^-1/2 step``, back in their own basis."""
    named = {id(p): name for name, p in adapter_parameters(model.network).items()}
    found = {}
    for number, block in enumerate(model.blocks):
        inner = torch.from_numpy(step[block.span]).view(block.rows, block.columns)
        inner = inner * factors.inverse_roots[number]
        change = factors.rows[number] @ inner @ factors.columns[number].T
        found[named[id(block.module.weight)]] = block.module.weight.detach() + change
    return found
