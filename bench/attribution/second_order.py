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
square: so each is shown at the step as it is and at the length that does best on the development
queries, from a list. How large the true effects are beside the first order is told too. F_S is from
labels that the model samples, as F is.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.influence.build import build_with
from attribution.influence.checkpoints import adapter_parameters
from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import Factors, whiten
from attribution.influence.gradients import Sink, backward, batches, make_batch, per_example
from attribution.influence.index import Index
from attribution.influence.model import AdaptedModel, Block, Checkpoint
from attribution.influence.scorer import Scorer
from bench import report
from bench.attribution import metrics, runs, task, training
from bench.attribution.metrics import Quality
from bench.attribution.runs import World

Doubles = NDArray[np.float64]
# Of the step; which one is chosen on the development queries.
LENGTHS = (1 / 256, 1 / 64, 1 / 16, 1 / 4, 1.0)
REACH = 0.25  # of a step, for the central difference
DEVELOPMENT = slice(0, task.DEVELOPMENT)
FIRST = "first order"


@dataclass(frozen=True, slots=True)
class Effects:
    """What leaving sets out does to each query's loss, (queries, sets): first contributors, then
    what each half leaves out; ``seconds`` of CPU time beyond the first order's."""

    found: Doubles
    seconds: float = 0.0


def main(result: report.Report, world: World) -> int:
    terms = effects(world)
    lines = [
        f"{'effects of groups':34} {'length':>6} {'dev LDS':>7} {'LDS':>6} {'95 %':>13} {'P':>6} "
        f"{'S':>6} {'top1':>5} {'TV':>6} {'gen LDS':>7} {'gen P':>6} {'more s':>7}"
    ]
    base = judged(terms[FIRST][1.0], world, world.held_out)
    for name, by_length in terms.items():
        chosen = max(by_length, key=lambda length: _on_development(by_length[length], world))
        for length in dict.fromkeys((1.0, chosen)):
            one = by_length[length]
            lines.append(_line(name, length, one, world))
            if name != FIRST:
                _add(result, f"{name}, {length:g} x", judged(one, world, world.held_out), base)
    part = world.known.of(DEVELOPMENT)
    first, true = terms[FIRST][1.0].found[DEVELOPMENT, : len(world.made.groups)], part.effects
    slope = float((first * true).sum() / np.square(first).sum())
    result.add("true effects of contributors over the first order's", slope, "x",
               note="development queries")  # fmt: skip
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
    around = around_steps(scorer, world, steps)
    slope = metrics.correlations(around.slope, first)
    sys.stderr.write(f"first order and the loss's own slope: P {slope.mean():.4f}, size "
                     f"{np.sum(first * around.slope) / np.square(first).sum():.4f}\n")  # fmt: skip
    terms: dict[str, tuple[Doubles, float]] = {
        "group's curvature": (by_group - first, curvature_s),
        "answer's Hessian": (around.hessian, around.seconds),
        "answer's Gauss-Newton": (around.gauss_newton, around.seconds),
        "both": (by_group - first + around.gauss_newton, curvature_s + around.seconds),
    }
    found = {FIRST: {1.0: Effects(first)}} | {
        name: {c: Effects(c * first + c * c * second, seconds) for c in LENGTHS}
        for name, (second, seconds) in terms.items()
    }
    if world.name == "a":
        found["the whole step"] = {c: whole_step(scorer, world, steps, c) for c in LENGTHS}
    return found


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


@dataclass(frozen=True, slots=True)
class Around:
    """Along each step, (queries, sets): the loss's slope, ``u H u / 2`` by its Hessian and by its
    Gauss-Newton part, and the CPU seconds of it all."""

    slope: Doubles
    hessian: Doubles
    gauss_newton: Doubles
    seconds: float


def around_steps(scorer: Scorer, world: World, steps: NDArray[np.float32]) -> Around:
    began = time.process_time()
    here, here_logits = asked(scorer, world, None)
    slopes, hessians, gauss_newtons = [], [], []
    for step in steps:
        after, after_logits = asked(scorer, world, REACH * step)
        before, before_logits = asked(scorer, world, -REACH * step)
        slopes.append((after - before) / (2 * REACH))
        hessians.append((after + before - 2 * here) / (2 * REACH**2))
        column = np.zeros(len(here))
        for place, middle in enumerate(here_logits):
            odds = middle.softmax(-1)  # (targets, vocabulary)
            change = (after_logits[place] - before_logits[place]) / (2 * REACH)
            mean = (odds * change).sum(-1)
            column[place] = float((odds * change.square()).sum() - mean.square().sum()) / 2
        gauss_newtons.append(column)
    slope, hessian, gauss_newton = (
        np.stack(columns, axis=1) for columns in (slopes, hessians, gauss_newtons)
    )
    return Around(slope, hessian, gauss_newton, time.process_time() - began)


def asked(
    scorer: Scorer, world: World, step: NDArray[np.float32] | None
) -> tuple[Doubles, list[Tensor]]:
    """Losses of all queries with the adapter moved by a step, and logits of their targets."""
    losses, every = [], []
    with at_step(scorer, step), torch.inference_mode():
        for query in world.asked:
            ids = torch.tensor([list(query.input_ids)])
            wanted = torch.tensor(list(query.loss_mask))[1:] > 0
            logits = scorer.model.network(input_ids=ids, use_cache=False).logits[0, :-1][wanted]
            told = -logits.double().log_softmax(-1).gather(1, ids[0, 1:][wanted][:, None])
            losses.append(float(told.sum()))
            every.append(logits)
    return np.array(losses), every


def whole_step(scorer: Scorer, world: World, steps: NDArray[np.float32], length: float) -> Effects:
    began = time.process_time()
    here = losses_at(scorer, world, None)
    found = [losses_at(scorer, world, length * step) - here for step in steps]
    return Effects(np.stack(found, axis=1), time.process_time() - began)


def losses_at(scorer: Scorer, world: World, step: NDArray[np.float32] | None) -> Doubles:
    with at_step(scorer, step):
        return training.losses(scorer.model.network, world.asked)


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
