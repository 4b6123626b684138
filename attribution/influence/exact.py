"""The exact influence of every record on an answer, through a run that is trained once more.

Every training step counts each record's loss with a weight of one. What the answer's loss would
change by, if a record's weight did in every step that reads it, is a derivative through the whole
training: MAGIC (Ilyas and Engstrom, arXiv 2504.16430). It needs no guess of a curvature and takes
the order of records, the optimiser and its clipping into account; it costs about six trainings for
one answer, where the index costs a dot product.

1. The run is replayed by its own trainer, `modelfactory.training`, and a point is kept every
   ``sqrt(steps)`` steps: parameters, both moments of AdamW, the state of the random numbers. What
   comes out must be the published adapter to the bit, else nothing is told.
2. Backwards, the steps between two points are replayed with all their points, and each step hands
   the derivative over to the one before. For AdamW and the clipping that is arithmetic; for the
   gradient ``G(parameters, weights)`` it is the gradient of ``<a, G>``, a second backward pass.

Memory: ``2 sqrt(steps)`` points of three numbers a trainable parameter. The loss stays divided by
the step's number of predicted tokens, whatever the weights. What DoRA's gradient leaves out is put
back where it is differentiated (`attribution/influence/dora.py`). What is not
smooth (AdamW's first steps depend on the sign of a gradient; clipping has a bend) is taken as it is
at the run's own place, so an influence is that of a small change of weight, not of leaving out.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from attribution.influence.dora import held_norms
from attribution.influence.errors import ReplayError
from attribution.influence.gradients import Tokens
from attribution.influence.index import file_sha256
from attribution.influence.model import ADAPTER_FILE
from attribution.influence.points import (
    Point,
    Tensors,
    random_state,
    restore,
    set_random,
    take_point,
    trainable,
)
from modelfactory.training.adapters import save_adapter
from modelfactory.training.batches import Batch, collate
from modelfactory.training.train import (
    Training,
    autocast,
    batch_loss,
    learning_rate,
    mask_dtype,
    take_step,
)

Passes = list[list[list[int]]]  # pass, row, item number
Beat = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True, slots=True)
class Exact:
    """``influences`` by record id: nats that the answer's loss falls by for each unit of weight,
    positive where the record made the answer likelier. ``loss`` in nats over its tokens."""

    influences: dict[str, float]
    loss: float
    adapter_sha256: str
    steps: int


@dataclass(frozen=True, slots=True)
class Replay:
    """A run that was trained once more: its steps, and a point before ``every`` so many."""

    order: list[Passes]
    every: int
    points: list[Point]


@dataclass(frozen=True, slots=True)
class Adjoint:
    """What the answer's loss changes by with each number of a point, in double precision."""

    parameters: Tensors
    first: Tensors
    second: Tensors


def exact_influences(
    training: Training, answer: Tokens, adapter_sha256: str, beat: Beat = lambda done, total: None
) -> Exact:
    """Those on one answer; see `exact_influences_of`."""
    return exact_influences_of(training, [answer], adapter_sha256, beat)[0]


def exact_influences_of(
    training: Training,
    answers: Sequence[Tokens],
    adapter_sha256: str,
    beat: Beat = lambda done, total: None,
) -> list[Exact]:
    """Replay ``training``, which is prepared and at its first step, and go back through it.

    ``adapter_sha256`` is that of the published file. Raises ReplayError where the run does not give
    that adapter, or trains on no records. Several answers go back together: each costs one more
    backward pass a step, and the rest is done once. Of a model that was made from others
    `attribution.influence.lineage` goes on into their runs.
    """
    if training.job.is_merge or not training.schedule:
        raise ReplayError("A merge trains on no records, so there is nothing to replay.")
    run = replay(training, adapter_sha256, beat)
    losses, adjoints = map(
        list, zip(*(of_answer(training, answer) for answer in answers), strict=True)
    )
    influences, _ = go_back(training, run, adjoints, beat)
    return [
        finite(Exact(mine, loss, adapter_sha256, len(run.order)))
        for mine, loss in zip(influences, losses, strict=True)
    ]


def replay(training: Training, adapter_sha256: str, beat: Beat) -> Replay:
    """Train once more, with a point every so often. Raises ReplayError where it comes to another
    adapter than the published one."""
    order = [passes for epoch in training.schedule for passes in epoch]
    every = math.isqrt(max(0, len(order) - 1)) + 1
    points = []
    for step, passes in enumerate(order):
        if step % every == 0:
            points.append(take_point(training))
        forward(training, passes)
        beat(step + 1, 3 * len(order))
    found = _adapter_sha256(training)
    if found != adapter_sha256:
        raise ReplayError(
            f"The replayed run gave the adapter {found[:12]}, published is {adapter_sha256[:12]}: "
            "its records, its programs or its machine are not those of then."
        )
    return Replay(order, every, points)


def go_back(
    training: Training, run: Replay, adjoints: Sequence[Adjoint], beat: Beat
) -> tuple[list[dict[str, float]], list[Adjoint]]:
    """From the derivatives by where the run ended to those by its records' weights and to those by
    where it began, for each of ``adjoints``."""
    adjoints = list(adjoints)
    influences = [{item.record: 0.0 for item in training.training} for _ in adjoints]
    done, total = len(run.order), 3 * len(run.order)
    for point in reversed(run.points):
        part = run.order[point.step : point.step + run.every]
        restore(training, point)
        kept = []
        for passes in part:
            kept.append(take_point(training))
            forward(training, passes)
        for passes in reversed(part):
            adjoints, weighed = back(training, kept.pop(), passes, adjoints)
            for mine, one in zip(influences, weighed, strict=True):
                for record, value in one.items():
                    mine[record] -= value
            done += 2
            beat(done, total)
    return influences, adjoints


def finite(found: Exact) -> Exact:
    """What was found. Raises ReplayError where a number of it is none."""
    if not all(math.isfinite(value) for value in (found.loss, *found.influences.values())):
        raise ReplayError("The derivative through the run is no finite number.")
    return found


def forward(training: Training, passes: Passes) -> None:
    """One step as the trainer takes it."""
    take_step(training, passes)
    training.progress.step += 1


def of_answer(training: Training, answer: Tokens) -> tuple[float, Adjoint]:
    """The answer's loss by the model as it stands, and its derivative there."""
    parameters, device = trainable(training), training.job.device
    ids = torch.tensor([list(answer.input_ids)], device=device)
    asked = torch.tensor([list(answer.loss_mask)], device=device)[:, 1:] > 0
    training.model.eval()
    with autocast(training.job), held_norms(training.model) as norms:
        logits = training.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
        ).logits
    loss = cross_entropy(_wide(logits[:, :-1][asked]), ids[:, 1:][asked], reduction="sum")
    gradients = torch.autograd.grad(loss, [*parameters, *norms.leaves])
    behind = norms.through(gradients[len(parameters) :], parameters)
    training.model.train()
    return float(loss.detach()), Adjoint(
        [one.double() + more.double() for one, more in zip(gradients, behind, strict=False)],
        [torch.zeros_like(p, dtype=torch.float64) for p in parameters],
        [torch.zeros_like(p, dtype=torch.float64) for p in parameters],
    )


def back(
    training: Training, point: Point, passes: Passes, afters: Sequence[Adjoint]
) -> tuple[list[Adjoint], list[dict[str, float]]]:
    """From the derivatives after a step to those before it, and to those by its records' weights,
    answer by answer."""
    restore(training, point)
    parameters = trainable(training)
    batches = [collate(rows, training.training, training.pad) for rows in passes]
    predicted = max(1, sum(batch.predicted for batch in batches))
    randoms = []
    for batch in batches:
        randoms.append(random_state())
        loss = batch_loss(training, batch.to(training.job.device)) / predicted
        loss.backward()  # type: ignore[no-untyped-call]
    raw = [(p.grad if p.grad is not None else torch.zeros_like(p)).double() for p in parameters]
    training.optimizer.zero_grad(set_to_none=True)
    befores, towards = zip(
        *(_through_adamw(training, point, raw, after) for after in afters), strict=True
    )
    by_record: list[dict[str, float]] = [defaultdict(float) for _ in afters]
    for rows, batch, random in zip(passes, batches, randoms, strict=True):
        set_random(random)
        found = _through_gradient(training, rows, batch, predicted, towards)
        for before, mine, (second, weighed) in zip(befores, by_record, found, strict=True):
            for place, change in enumerate(second):
                before.parameters[place] += change
            for record, value in weighed.items():
                mine[record] += value
    return list(befores), by_record


def _through_adamw(
    training: Training, point: Point, raw: Tensors, after: Adjoint
) -> tuple[Adjoint, Tensors]:
    """The derivative before the step but for what goes through the gradient, and by ``raw``, the
    gradient before it was clipped.

        g = c raw, c = min(1, most / (|raw| + 1e-6));  m = b1 m + (1 - b1) g;  v likewise of g g
        p = (1 - rate decay) p - rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    """
    group = training.optimizer.param_groups[0]
    (b1, b2), eps, decay = group["betas"], group["eps"], group["weight_decay"]
    rate = learning_rate(point.step, training.steps, training.recipe)
    first_left, second_left = 1 - b1 ** (point.step + 1), 1 - b2 ** (point.step + 1)
    norm = math.sqrt(sum(float(g.square().sum()) for g in raw))
    most = training.recipe.max_gradient_norm
    scale = min(1.0, most / (norm + 1e-6))
    before, towards = Adjoint([], [], []), []
    for place, unclipped in enumerate(raw):
        g = unclipped * scale
        m = b1 * point.first[place].double() + (1 - b1) * g
        v = b2 * point.second[place].double() + (1 - b2) * g.square()
        root = (v / second_left).sqrt()
        by_p, width = after.parameters[place], root + eps
        by_m = after.first[place] - by_p * rate / first_left / width
        bent = by_p * rate * m / first_left / width.square() / (2 * root * second_left)
        # Where v is zero so is g, and what goes through v is g's square.
        by_v = after.second[place] + torch.where(root > 0, bent, 0.0)
        towards.append((1 - b1) * by_m + 2 * (1 - b2) * g * by_v)
        before.parameters.append(by_p * (1 - rate * decay))
        before.first.append(b1 * by_m)
        before.second.append(b2 * by_v)
    if scale < 1.0:
        along = sum(float((t * g).sum()) for t, g in zip(towards, raw, strict=True))
        bend = along * most / (norm + 1e-6) ** 2 / norm
        towards = [t * scale - g * bend for t, g in zip(towards, raw, strict=True)]
    return before, towards


def _through_gradient(
    training: Training,
    rows: list[list[int]],
    batch: Batch,
    predicted: int,
    towards: Sequence[Tensors],
) -> list[tuple[Tensors, dict[str, float]]]:
    """Derivatives of ``<towards, gradient>`` by parameters and by the weights of the records."""
    parameters = trainable(training)
    numbers = [number for row in rows for number in row]
    weights = torch.ones(
        len(numbers), device=training.job.device, dtype=torch.float64, requires_grad=True
    )
    found = []
    # The fused kernels of attention have no second derivative.
    with sdpa_kernel(SDPBackend.MATH), held_norms(training.model) as norms:
        loss = weighted_loss(training, rows, batch.to(training.job.device), weights) / predicted
        gradients = torch.autograd.grad(
            loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
        for place, toward in enumerate(towards):
            along = torch.stack(
                [(g * t.to(g.dtype)).sum() for g, t in zip(gradients, toward, strict=True)]
            ).sum()
            weighed, *rest = torch.autograd.grad(
                along,
                [weights, *parameters, *norms.leaves],
                allow_unused=True,
                materialize_grads=True,
                retain_graph=place + 1 < len(towards),
            )
            second, by_norms = rest[: len(parameters)], rest[len(parameters) :]
            behind = norms.through(by_norms, parameters)
            by_record: dict[str, float] = defaultdict(float)
            for number, value in zip(numbers, weighed.tolist(), strict=True):
                by_record[training.training[number].record] += value
            whole = [a.double() + b.double() for a, b in zip(second, behind, strict=True)]
            found.append((whole, by_record))
    return found


def weighted_loss(
    training: Training, rows: Sequence[Sequence[int]], batch: Batch, weights: Tensor
) -> Tensor:
    """`batch_loss` with a weight for each record, in the order in which ``rows`` name them."""
    with autocast(training.job):
        logits = training.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask.to(mask_dtype(batch, training.model)),
            position_ids=batch.position_ids,
            use_cache=False,
        ).logits
    losses = cross_entropy(
        _wide(logits[:, :-1]).flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="none"
    ).view(len(rows), -1)  # (rows, length - 1)
    total, place = losses.new_zeros(()), 0
    for row, numbers in enumerate(rows):
        end = 0
        for number in numbers:
            begin, end = end, end + len(training.training[number].example.input_ids)
            # A token is predicted at the place before it.
            mine = losses[row, max(0, begin - 1) : end - 1].sum()
            total = total + mine * weights[place].to(losses.dtype)
            place += 1
    return total


def _wide(logits: Tensor) -> Tensor:
    """At least single precision, as the trainer has it."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _adapter_sha256(training: Training) -> str:
    with tempfile.TemporaryDirectory(prefix="replayed-") as folder:
        save_adapter(training.model, Path(folder))
        return file_sha256(Path(folder) / ADAPTER_FILE)


def as_integers(influences: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in their proportion, the largest 2**40, so that shares are exact."""
    largest = max((abs(value) for value in influences.values()), default=0.0)
    scale = 2**40 / largest if largest > 0 else 0.0
    return {name: round(value * scale) for name, value in influences.items()}
