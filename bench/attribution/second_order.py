"""Effects of whole groups to second order, against retraining: `--second-order`.

Influence is additive: what leaving a group S out does to an answer's loss is told as the sum of its
records'. With u_i = (F + damping)^-1 g_i / n, the step that leaving record i out asks for, and u_S
their sum, these are held against the truth, for contributors left out and for halves:

    first order            <g_q, u_S>
    group's curvature      <g_q, (1 + X_S) u_S>: the group takes its own curvature with it,
                           X_S = F^-1 F_S in EK-FAC's eigenbasis (Basu et al. 2020,
                           arXiv 1911.00418)
    answer's Hessian       <g_q, u_S> + u_S H_q u_S / 2: pairs of records that move the answer
                           alike count otherwise than their sum (Heo et al. 2026, arXiv 2605.15675)
    answer's Gauss-Newton  the same without the Hessian's part that may be negative
    both                   the group's curvature and the answer's Gauss-Newton added
    the whole step         loss_q(adapter + u_S) - loss_q(adapter), no expansion (Task A alone)

Both come from central differences along u_S, of losses and of logits. A training that has not
converged takes a shorter step than (F + damping)^-1 asks for, and the second term grows with its
square: so each is shown at the step as it is, at the length at which the first order has the size
of contributors' true effects, and at which of these and some others does best, both by the
development queries. F_S is from labels that the model samples, as F is. On Task B, where a query
costs more, the first 24 halves are asked.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import Factors, whiten
from attribution.influence.gradients import Sink, backward, batches, make_batch, per_example
from attribution.influence.index import Index
from attribution.influence.model import AdaptedModel, Block
from attribution.influence.scorer import Scorer
from bench import report
from bench.attribution import metrics, runs, task
from bench.attribution.displaced import around_steps, asked
from bench.attribution.metrics import Quality
from bench.attribution.runs import World

Doubles = NDArray[np.float64]
LENGTHS = (1 / 256, 1 / 64, 1 / 16, 1 / 4, 1.0)  # of the step, and the one that fits
FEW = 24  # halves
DEVELOPMENT = slice(0, task.DEVELOPMENT)
FIRST = "first order"


@dataclass(frozen=True, slots=True)
class Effects:
    """What leaving sets out does to each query's loss, (queries, sets): first contributors, then
    what each half leaves out; ``seconds`` of CPU time beyond the first order's."""

    found: Doubles
    seconds: float = 0.0


def main(result: report.Report, world: World) -> int:
    if world.name == "b":
        few = replace(
            world.known,
            halves=world.known.halves[:FEW],
            half_losses=world.known.half_losses[:FEW],
        )
        world = replace(world, known=few)
    terms = effects(world)
    lines = [
        f"{'effects of groups':34} {'length':>6} {'dev LDS':>7} {'LDS':>6} {'95 %':>13} {'P':>6} "
        f"{'S':>6} {'top1':>5} {'TV':>6} {'gen LDS':>7} {'gen P':>6} {'more s':>7}"
    ]
    base = judged(terms[FIRST][1.0], world, world.held_out)
    for name, by_length in terms.items():
        chosen = max(by_length, key=lambda length: _on_development(by_length[length], world))
        for length in dict.fromkeys((1.0, *list(by_length)[-1:], chosen)):
            one = by_length[length]
            lines.append(_line(name, length, one, world))
            if name != FIRST:
                _add(result, f"{name}, {length:g} x", judged(one, world, world.held_out), base)
    result.add("true effects of contributors over the first order's",
               fitted(terms[FIRST][1.0].found, world), "x", note="development queries")  # fmt: skip
    sys.stdout.write("\n".join([*lines, "", ""]))
    return result.finish()


def effects(world: World) -> dict[str, dict[float, Effects]]:
    """By name and length of the step."""
    config, count = InfluenceConfig(), len(world.made.records)
    sets = np.concatenate([world.known.members, ~world.known.halves]).astype(np.float64)
    with tempfile.TemporaryDirectory(prefix="bench-second-order-") as folder:
        build_with(world.model, config, world.made.records, Path(folder))
        scorer = Scorer.of(Index.open(folder), world.model)
        records = runs.whitened(scorer, world.made.records, config)
        queries = runs.whitened(scorer, world.asked, config)
    began = time.process_time()
    own = curvature_of(scorer.model, scorer.factors, world, sets, config.batch_tokens)
    curvature_s = time.process_time() - began
    steps = (sets @ records / count).astype(np.float32)  # whitened, (sets, dimension)
    wider = steps * (1 + own)
    first = (queries @ steps.T).astype(np.float64)
    by_group = (queries @ wider.T).astype(np.float64)
    around = around_steps(scorer, world.asked, steps)
    slope = metrics.correlations(around.slope, first)
    sys.stderr.write(f"first order and the loss's own slope: P {slope.mean():.4f}, size "
                     f"{np.sum(first * around.slope) / np.square(first).sum():.4f}\n")  # fmt: skip
    terms: dict[str, tuple[Doubles, float]] = {
        "group's curvature": (by_group - first, curvature_s),
        "answer's Hessian": (around.hessian, around.seconds),
        "answer's Gauss-Newton": (around.gauss_newton, around.seconds),
        "both": (by_group - first + around.gauss_newton, curvature_s + around.seconds),
    }
    lengths = (*LENGTHS, fitted(first, world))
    found = {FIRST: {1.0: Effects(first)}} | {
        name: {c: Effects(c * first + c * c * second, seconds) for c in lengths}
        for name, (second, seconds) in terms.items()
    }
    if world.name == "a":
        found["the whole step"] = {c: whole_step(scorer, world, steps, c) for c in lengths[-2:]}
    return found


def fitted(first: Doubles, world: World) -> float:
    """What the true effects of contributors are of the first order's, by least squares."""
    predicted = first[DEVELOPMENT, : len(world.made.groups)]
    true = world.known.of(DEVELOPMENT).effects
    return float((predicted * true).sum() / np.square(predicted).sum())


def curvature_of(
    model: AdaptedModel, factors: Factors, world: World, sets: Doubles, batch_tokens: int
) -> NDArray[np.float32]:
    """The diagonal of ``F^-1 F_S``, S's part of all records' curvature, (sets, dimension)."""
    found = np.zeros((len(sets), model.dimension), dtype=np.float32)
    records = world.made.records
    lengths = [len(record.input_ids) for record in records]
    for places in batches(lengths, range(len(records)), batch_tokens):
        squares = torch.zeros(len(places), model.dimension)
        sink = _squares_into(squares, factors)

        made = make_batch([records[place] for place in places], model.device)
        backward(model, made, sink, labels="sampled", seed=places[0])
        found += sets[:, places].astype(np.float32) @ squares.numpy()
    found /= len(records)
    return found


def _squares_into(out: Tensor, factors: Factors) -> Sink:
    def sink(number: int, block: Block, activations: Tensor, gradients: Tensor) -> None:
        whole = whiten(factors, number, per_example(activations, gradients))
        out[:, block.span] = whole.square().flatten(1)

    return sink


def whole_step(scorer: Scorer, world: World, steps: NDArray[np.float32], length: float) -> Effects:
    began = time.process_time()
    here = asked(scorer, world.asked, None)[0]
    found = [asked(scorer, world.asked, length * step)[0] - here for step in steps]
    return Effects(np.stack(found, axis=1), time.process_time() - began)


def judged(one: Effects, world: World, part: slice) -> Quality:
    groups = len(world.made.groups)
    effect = one.found[part]
    return metrics.judge_subsets(-effect[:, groups:], effect[:, :groups], world.known.of(part))


def _on_development(one: Effects, world: World) -> float:
    quality = judged(one, world, DEVELOPMENT)
    return float(quality.lds.mean() + quality.pearson.mean())


def _line(name: str, length: float, one: Effects, world: World) -> str:
    development, held_out, generated = (
        judged(one, world, part) for part in (DEVELOPMENT, world.held_out, world.generated)
    )
    low, high = metrics.interval(held_out.lds)
    means = [float(getattr(held_out, f).mean())
             for f in ("pearson", "spearman", "top1", "variation")]  # fmt: skip
    return (
        f"{name:34} {length:6.4g} {development.lds.mean():7.3f} {held_out.lds.mean():6.3f} "
        f"{low:6.3f} {high:6.3f} {means[0]:6.3f} {means[1]:6.3f} {means[2]:5.2f} {means[3]:6.3f} "
        f"{generated.lds.mean():7.3f} {generated.pearson.mean():6.3f} {one.seconds:7.1f}"
    )


def _add(result: report.Report, name: str, mine: Quality, first: Quality) -> None:
    figures: Sequence[str] = ("lds", "pearson")
    for figure in figures:
        a, b = getattr(mine, figure), getattr(first, figure)
        low, high = metrics.ratio_interval(a, b)
        result.add(f"{figure}: {name} / {FIRST}", float(a.mean() / b.mean()), "x",
                   note=f"95 %: {low:.3f} to {high:.3f}")  # fmt: skip
