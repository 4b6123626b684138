"""What is true of Task B, found by training again: `python -m bench.attribution.truth_b MEDQUAD`.

The full model, 48 halves of every contributor's records and each of the twelve contributors left
out, two seeds each: 120 retrainings, and the losses of the held-out queries and of 40 generated
answers after each. Runs of equal length are trained a few at once (`stacked.py`), one thread; each
depends on its seed and its records alone. A finished run is a small file, so the command may be
stopped (`--minutes` stops it) and goes on, and folders made on several machines can be put
together by copying. `--pack` writes what is there into `task_b/truth.npz`, which is committed and
says how many runs it holds: a run that is not there yet is NaN.

`--form large --device cuda` is the larger form (`task_b.LARGE`); its truth is not made yet.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.influence.examples import IndexedExample
from bench.attribution import task, task_b, truth
from bench.attribution.stacked import Stack
from bench.attribution.task_b import Form
from bench.attribution.truth import HALVES, Run

SEEDS = (1, 2)
AT_ONCE = 6  # halves; of the longer runs four
RUNS = len(SEEDS) * (HALVES + len(task_b.TOPICS))  # without the full model's two


def plan(made: task.Task) -> Iterator[list[Run]]:
    """Runs of equal length, in the order in which they say most about an unfinished truth."""
    every = list(range(len(made.records)))
    kept = truth.halves(made)

    def halves(seed: int, begin: int, end: int) -> Iterator[list[Run]]:
        for first in range(begin, end, AT_ONCE):
            yield [
                Run(f"half-{row}", seed, np.flatnonzero(kept[row]).tolist())
                for row in range(first, first + AT_ONCE)
            ]

    def without(seed: int) -> Iterator[list[Run]]:
        for first in range(0, len(made.groups), 4):
            yield [
                Run(f"without-{g}", seed, [p for p in every if made.records[p].group_id != g])
                for g in made.groups[first : first + 4]
            ]

    one, two = SEEDS
    yield from halves(one, 0, 12)
    yield from halves(two, 0, 12)
    yield [Run("full", one, every), Run("full", two, every)]
    yield from without(one)
    yield from halves(one, 12, HALVES)
    yield from without(two)
    yield from halves(two, 12, HALVES)


def full_model(made: task.Task, form: Form = task_b.PLAIN, device: str = "cpu") -> Any:
    """The network that is attributed."""
    stack = Stack([truth.FULL_SEED], form.recipe, device)
    stack.train([made.records], form.epochs)
    return stack.network(0)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("medquad", type=Path)
    parser.add_argument("--form", choices=task_b.FORMS, default="plain")
    parser.add_argument("--device", default="cpu", help="cuda, where there is one")
    parser.add_argument("--out", type=Path, help="default .data/bench/attribution_b, by form")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start none later")
    parser.add_argument("--pack", action="store_true", help="only write what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    form = task_b.FORMS[options.form]
    out = options.out or Path(".data/bench") / f"attribution_b_{options.form}"
    out.mkdir(parents=True, exist_ok=True)
    made = task_b.load(options.medquad)
    if not options.pack:
        go_on(made, form, out, time.monotonic() + 60 * options.minutes, options.device)
    pack(made, form, out)
    return 0


def go_on(made: task.Task, form: Form, out: Path, end: float, device: str) -> None:
    """Make what is not there yet; no run is begun after ``end`` of the monotonic clock."""
    answers = out / "generated.json"
    if not answers.exists():
        network = full_model(made, form, device)
        torch.save(network.state_dict(), out / "full.pt")
        _write(answers, truth.generate(network, made))
    asked = [*made.queries, *truth.generated_queries(made, json.loads(answers.read_text()))]
    for runs in plan(made):
        runs = [run for run in runs if not _file(out, run.name, run.seed).exists()]
        if not runs:
            continue
        if time.monotonic() > end:
            break
        began = time.process_time()
        found = together(made, runs, asked, form, device)
        spent = (time.process_time() - began) / len(runs)
        for run, losses in zip(runs, found, strict=True):
            line = {"cpu_s": round(spent, 2), "losses": [round(float(v), 4) for v in losses]}
            _write(_file(out, run.name, run.seed), line)
        sys.stderr.write(f"{runs[0].name} to {runs[-1].name}, {runs[0].seed}: {spent:.1f} s each\n")


def together(
    made: task.Task,
    runs: list[Run],
    asked: list[IndexedExample],
    form: Form = task_b.PLAIN,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Losses of the queries after each of the runs, (runs, queries)."""
    stack = Stack([run.seed for run in runs], form.recipe, device)
    stack.train([[made.records[p] for p in run.kept] for run in runs], form.epochs)
    return stack.losses(asked)


def pack(made: task.Task, form: Form, out: Path) -> None:
    """Everything that is there; halves of which no seed is there are left out."""
    answers = json.loads((out / "generated.json").read_text())
    count = len(made.queries) + len(answers)
    kept = truth.halves(made)
    spent: list[float] = []

    def losses(name: str) -> list[list[float]]:
        found = []
        for seed in SEEDS:
            file = _file(out, name, seed)
            run = json.loads(file.read_text()) if file.exists() else None
            found.append(run["losses"] if run else [float("nan")] * count)
            spent.extend([run["cpu_s"]] if run else [])
        return found

    halves = np.array([losses(f"half-{row}") for row in range(HALVES)], dtype=np.float32)
    there = ~np.isnan(halves).all(axis=(1, 2))
    leave = np.array([losses(f"without-{group}") for group in made.groups], dtype=np.float32)
    full = np.array(losses("full"), dtype=np.float32)
    form.folder.mkdir(exist_ok=True)
    np.savez_compressed(
        form.truth,
        halves=np.packbits(kept[there], axis=1),
        half_losses=halves[there],
        leave_losses=leave,
        full_losses=full,
        generated=np.array([token for answer in answers for token in answer], dtype=np.uint16),
        generated_lengths=np.array([len(answer) for answer in answers], dtype=np.uint16),
        records=np.array([record.content_hash[:16] for record in made.records]),
        queries=np.array([query.content_hash[:16] for query in made.queries]),
        base=np.array(task_b.base_sha256()),
        cpu_seconds=np.array(sum(spent)),
    )
    sys.stderr.write(f"{form.truth.name}: {truth.Truth.load(form.truth).runs} of {RUNS} runs\n")


def _file(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(' ', '-')}.{seed}.json"


def _write(path: Path, value: Any) -> None:
    """All of it or nothing."""
    half = path.with_suffix(".part")
    half.write_text(json.dumps(value))
    half.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
