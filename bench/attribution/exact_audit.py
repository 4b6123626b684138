"""The exact audit held against retraining on Task A: `--exact`.

The full model of the task is trained by the product's own trainer (fp32; the truth's retrainings
are in bf16 autocast), and `attribution/influence/exact.py` goes back through that run for every
held-out and generated answer: what each record's weight does to the answer's loss. These influences
are judged as every method is, by retrainings with other seeds. Beside them, what they are the
derivative of: the same run, same seed and order, with one contributor's weight at 0.9, 0.5 and 0.

Of the held-out and of the generated answers 24 each are asked. It takes half an hour, so that what
was found is kept (`task_a/exact.npz`, with the day); `--all` makes it again. A measurement that was
stopped goes on after its last lot.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.influence import exact
from attribution.influence.config import InfluenceConfig
from attribution.influence.index import file_sha256
from attribution.influence.model import ADAPTER_FILE
from bench import report
from bench.attribution import metrics, runs, task, training, truth
from bench.attribution.runs import World
from modelfactory.training.adapters import save_adapter
from modelfactory.training.batches import collate
from modelfactory.training.data import Item
from modelfactory.training.job import Events, Job
from modelfactory.training.prompts import load_tokenizer
from modelfactory.training.recipe import Recipe
from modelfactory.training.train import Training, learning_rate

Doubles = NDArray[np.float64]
FILE = task.FOLDER / "exact.npz"
PARTIAL = Path(".data/bench/exact.npz")
PARTS = (("held-out", slice(20, 44)), ("generated", slice(64, 88)))  # of the queries
AT_ONCE = 12  # answers that go back together
WEIGHTS = (0.9, 0.0)
# AdamW's eps: its own, and one at which its steps are smooth; how many answers are asked.
PLAIN, SMOOTH = 1e-8, 1e-3
ASKED = {PLAIN: 48, SMOOTH: 8}


def main(result: report.Report, world: World) -> int:
    every = [place for _, part in PARTS for place in range(part.start, part.stop)]
    for eps in (PLAIN, SMOOTH):
        places = every[: ASKED[eps]]
        kept = {} if result.options["all"] else load()
        if f"losses_{eps:g}" not in kept:
            _measure(world, eps, places)
            kept = load()
        by_record = kept[f"records_{eps:g}"].astype(np.float64) * kept[f"scale_{eps:g}"]
        seconds = kept[f"seconds_{eps:g}"]
        result.add(f"replays back through the run, eps {eps:g}", float(seconds[0]), "CPU s",
                   note=f"{len(places)} answers, {kept[f'measured_{eps:g}']}")  # fmt: skip
        _against_weights(result, world, by_record, kept[f"losses_{eps:g}"], places, eps)
        if eps == PLAIN:
            _against_truth(result, world, by_record)
            _one_against_others(result, world)
        else:
            part = slice(places[0], places[-1] + 1)
            quality = metrics.judge(by_record, world.sums(by_record), world.known.of(part))
            for figure in ("lds", "pearson", "spearman"):
                _add(
                    result, f"{figure}: exact, eps {eps:g}, held-out", getattr(quality, figure), ""
                )
    return result.finish()


def _against_truth(result: report.Report, world: World, by_record: Doubles) -> None:
    index = next(r for r in runs.ours(world, InfluenceConfig()) if r.name.endswith("(paid)"))
    sys.stdout.write(
        f"{'against retraining (other seeds)':34} {'LDS':>6} {'95 %':>13} {'P':>6} {'S':>6} "
        f"{'top1':>5} {'TV':>6}\n"
    )
    at = 0
    for what, part in PARTS:
        mine = by_record[at : at + part.stop - part.start]
        at += len(mine)
        theirs = index.records[part]
        both = _of_length_one(mine) + _of_length_one(theirs)
        rows = (
            ("exact", mine, world.sums(mine)),
            ("index, sums", theirs, index.groups[part]),
            ("both, of equal length", both, world.sums(both)),
        )
        for name, records, groups in rows:
            quality = metrics.judge(records, groups, world.known.of(part))
            sys.stdout.write(_line(f"{name}, {what}", quality))
            for figure in ("lds", "pearson", "spearman"):
                _add(result, f"{figure}: {name}, {what}", getattr(quality, figure), "")
        for unit, first, second in (
            ("contributors", world.sums(mine), index.groups[part]),
            ("records", mine, theirs),
        ):
            agree = metrics.correlations(first, second)
            _add(result, f"exact and index agree on {unit}, {what}", agree, "P")


def _one_against_others(result: report.Report, world: World) -> None:
    """What one retraining without a contributor says of the others: a witness of one seed."""
    part = world.known.of(PARTS[0][1])
    effects = part.leave_losses - part.full_losses  # (groups, seeds, queries)
    one, others = effects[:, 0].T, effects[:, 1:].mean(axis=1).T
    _add(
        result, "one retraining beside the others, held-out", metrics.correlations(one, others), "P"
    )
    _add(result, "one retraining beside the others, held-out",
         metrics.correlations(metrics.ranks(one), metrics.ranks(others)), "S")  # fmt: skip


def _of_length_one(rows: Doubles) -> Doubles:
    found: Doubles = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def _add(result: report.Report, name: str, values: Doubles, unit: str) -> None:
    low, high = metrics.interval(values)
    result.add(name, float(values.mean()), unit, note=f"95 %: {low:.3f} to {high:.3f}")


def _line(name: str, quality: metrics.Quality) -> str:
    low, high = metrics.interval(quality.lds)
    return (
        f"{name:34} {quality.lds.mean():6.3f} {low:6.3f} {high:6.3f} {quality.pearson.mean():6.3f} "
        f"{quality.spearman.mean():6.3f} {quality.top1.mean():5.2f} "
        f"{quality.variation.mean():6.3f}\n"
    )


def _against_weights(
    result: report.Report,
    world: World,
    by_record: Doubles,
    losses: Doubles,
    places: list[int],
    eps: float,
) -> None:
    """``losses`` (1 + weights x groups, queries) of the run as it is, then of those in which one
    contributor's records count otherwise."""
    count = len(world.made.groups)
    predicted = world.sums(by_record)
    losses = losses[:, places].astype(np.float64)
    sums = np.abs(predicted.sum(axis=1)) / np.abs(predicted).sum(axis=1)
    _add(result, f"sum of all influences over their sizes, eps {eps:g}", sums, "")
    for turn, weight in enumerate(WEIGHTS):
        rows = losses[1 + turn * count : 1 + (turn + 1) * count]
        true = (rows - losses[0]).T / (1 - weight)  # (queries, groups)
        ranked = metrics.correlations(metrics.ranks(predicted), metrics.ranks(true))
        name = f"same run, a contributor counts {weight:g}, eps {eps:g}"
        _add(result, name, metrics.correlations(predicted, true), "P")
        _add(result, name, ranked, "S")
        slope = float((predicted * true).sum() / np.square(predicted).sum())
        result.add(f"{name}: true over predicted", slope, "x")


def _measure(world: World, eps: float, places: list[int]) -> None:
    partial = PARTIAL.with_name(f"exact-{eps:g}.npz")
    names = [record.record_id for record in world.made.records]
    found: list[list[float]] = []
    losses: list[Doubles] = []
    spent = np.zeros(2)
    if partial.exists():
        with np.load(partial, allow_pickle=False) as arrays:
            found, losses = arrays["found"].tolist(), [*arrays["losses"]]
            spent = arrays["spent"]

    def keep(which: int, began: float) -> None:
        spent[which] += time.process_time() - began
        partial.parent.mkdir(parents=True, exist_ok=True)
        np.savez(partial, found=np.array(found), losses=np.array(losses), spent=spent)

    published = adapter_of(world, eps) if len(found) < len(places) else ""
    while len(found) < len(places):
        began = time.process_time()
        sys.stderr.write(f"eps {eps:g}: {len(found)} of {len(places)} answers ...\n")
        lot = [world.asked[place] for place in places[len(found) :][:AT_ONCE]]
        some = exact.exact_influences_of(prepared(world, eps), lot, published)
        found += [[one.influences[name] for name in names] for one in some]
        keep(0, began)
    plan = [("", 1.0), *((group, weight) for weight in WEIGHTS for group in world.made.groups)]
    for group, weight in plan[len(losses) :]:
        began = time.process_time()
        sys.stderr.write(f"eps {eps:g}: {group} counts {weight:g} ...\n")
        losses.append(reweighted(world, eps, group, weight))
        keep(1, began)
    _keep(eps, np.array(found), np.array(losses), spent)
    partial.unlink()


def prepared(world: World, eps: float) -> Training:
    """The full model's run for the product's trainer: same start, order, rates and batches."""
    count, size = len(world.made.records), training.TASK_A.batch
    recipe = Recipe(
        epochs=training.EPOCHS,
        learning_rate=training.TASK_A.learning_rate,
        batch_size=size,
        rank=training.TASK_A.rank,
        alpha=2 * training.TASK_A.rank,
        scheduler="linear",
        warmup=0.0,
        max_gradient_norm=1e9,
        seed=truth.FULL_SEED,
    )
    network = training.adapted(truth.FULL_SEED).train()
    order = np.random.default_rng(truth.FULL_SEED)
    schedule = []
    for _ in range(training.EPOCHS):
        places = order.permutation(count).tolist()
        schedule.append(
            [[[[place] for place in places[at : at + size]]] for at in range(0, count, size)]
        )
    optimizer = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad],
        lr=recipe.learning_rate, weight_decay=0.0, eps=eps,
    )  # fmt: skip
    items: Sequence[Any] = [Item(r.record_id, r, {}) for r in world.made.records]  # type: ignore[arg-type]
    return Training(
        job=Job("", "", recipe.to_json()),
        recipe=recipe,
        folder=Path(),
        events=Events(Path("/nonexistent"), 1),
        tokenizer=load_tokenizer(task.STARTER),
        training=list(items),
        held_out=[],
        model=network,
        optimizer=optimizer,
        pad=0,
        context=128,
        schedule=schedule,
    )


def adapter_of(world: World, eps: float) -> str:
    """The hash of what the run gives, which a replay must give again."""
    run = prepared(world, eps)
    for passes in _steps(run):
        exact.forward(run, passes)
    with tempfile.TemporaryDirectory(prefix="bench-exact-") as folder:
        save_adapter(run.model, Path(folder))
        return file_sha256(Path(folder) / ADAPTER_FILE)


def reweighted(world: World, eps: float, group: str, weight: float) -> Doubles:
    """Losses of all queries after the same run with a contributor's records counted otherwise."""
    run = prepared(world, eps)
    mine = [weight if r.group_id == group else 1.0 for r in world.made.records]
    for step, passes in enumerate(_steps(run)):
        for part in run.optimizer.param_groups:
            part["lr"] = learning_rate(step, run.steps, run.recipe)
        for rows in passes:
            batch = collate(rows, run.training, run.pad)
            weights = torch.tensor([mine[number] for row in rows for number in row])
            loss = exact.weighted_loss(run, rows, batch, weights) / batch.predicted
            loss.backward()
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
    return training.losses(run.model.eval(), world.asked)


def _steps(run: Training) -> list[exact.Passes]:
    return [passes for epoch in run.schedule for passes in epoch]


def load() -> dict[str, Any]:
    """What is kept, by name and eps; nothing where it was not measured."""
    if not FILE.exists():
        return {}
    with np.load(FILE, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _keep(eps: float, found: Doubles, losses: Doubles, spent: NDArray[Any]) -> None:
    """Each answer's influences in parts of its largest, beside those of the other eps."""
    scale = np.abs(found).max(axis=1, keepdims=True)
    every = load() | {
        f"records_{eps:g}": (found / scale).astype(np.float16),
        f"scale_{eps:g}": scale,
        f"losses_{eps:g}": losses.astype(np.float32),
        f"seconds_{eps:g}": spent,
        f"measured_{eps:g}": np.array(datetime.now(UTC).date().isoformat()),
    }
    half = FILE.with_suffix(".part.npz")
    np.savez_compressed(half, **every)
    half.replace(FILE)
