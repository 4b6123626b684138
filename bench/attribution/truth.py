"""What is true of Task A, found by training again: `python -m bench.attribution.truth MEDQUAD`.

The full model is trained on all records, then again on 48 random halves of every contributor's
records (two seeds each), and without each contributor (six seeds); each time the losses of all
held-out queries and of the answers that the full model generated are kept. One process, one
thread; each training is a line in `runs.jsonl`, so it may be stopped at any time and goes on.
The order is such that a truth which is not finished is a smaller truth, not a crooked one.
`--pack` writes what is there into `task_a/truth.npz`, which is committed.

Only numbers are kept: hashes of records and queries, token ids that our model generated, losses.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.influence.examples import IndexedExample
from bench.attribution import task, training

HALVES = 48
HALF_SEEDS = (1, 2)
LEAVE_SEEDS = (1, 2, 3, 4, 5, 6)
FULL_SEED = 0  # of the adapter that is attributed
GENERATED = 40
NEW_TOKENS = 40
TEMPERATURE = 0.7
FILE = task.FOLDER / "truth.npz"


@dataclass(frozen=True, slots=True)
class Run:
    """One retraining: ``kept`` are the places of the records that it sees."""

    name: str
    seed: int
    kept: list[int]


@dataclass(frozen=True, slots=True)
class Truth:
    """``halves`` (subsets, records) bool; losses (subsets or groups, seeds, queries), where
    generated answers follow the held-out queries; ``full`` (seeds, queries). NaN is a retraining
    that was not made yet."""

    halves: NDArray[np.bool_]
    half_losses: NDArray[np.float64]
    leave_losses: NDArray[np.float64]
    full_losses: NDArray[np.float64]
    generated: list[list[int]]
    records: list[str]
    queries: list[str]
    cpu_seconds: float

    @classmethod
    def load(cls, path: Path = FILE) -> Truth:
        with np.load(path, allow_pickle=False) as arrays:
            lengths = np.cumsum(arrays["generated_lengths"])[:-1]
            return cls(
                halves=np.unpackbits(arrays["halves"], axis=1).astype(bool),
                half_losses=arrays["half_losses"].astype(np.float64),
                leave_losses=arrays["leave_losses"].astype(np.float64),
                full_losses=arrays["full_losses"].astype(np.float64),
                generated=[part.tolist() for part in np.split(arrays["generated"], lengths)],
                records=[str(name) for name in arrays["records"]],
                queries=[str(name) for name in arrays["queries"]],
                cpu_seconds=float(arrays["cpu_seconds"]),
            )

    @property
    def runs(self) -> int:
        """How many retrainings it holds, without those of the full model."""
        there = [~np.isnan(found[:, :, 0]) for found in (self.half_losses, self.leave_losses)]
        return int(sum(found.sum() for found in there))

    def check(self, made: task.Task) -> None:
        """Raises ValueError where the task's text is not the one that this truth is about."""
        for what, stated, found in (
            ("records", self.records, made.records),
            ("queries", self.queries, made.queries),
        ):
            if stated != [example.content_hash[:16] for example in found]:
                raise ValueError(f"The {what} of this folder are not those of the truth.")


def halves(made: task.Task) -> NDArray[np.bool_]:
    """Half of every contributor's records, drawn anew for each subset."""
    draw = np.random.default_rng(2026)
    kept = np.zeros((HALVES, len(made.records)), dtype=bool)
    owner = np.array([record.group_id for record in made.records])
    for row in kept:
        for group in made.groups:
            places = np.flatnonzero(owner == group)
            row[draw.permutation(places)[: len(places) // 2]] = True
    return kept


def plan(made: task.Task) -> Iterator[Run]:
    """All retrainings: first one of every kind, then more seeds."""
    every = list(range(len(made.records)))
    kept = halves(made)

    def half(number: int, seed: int) -> Run:
        return Run(f"half-{number}", seed, np.flatnonzero(kept[number]).tolist())

    def without(group: str, seed: int) -> Run:
        left = [p for p in every if made.records[p].group_id != group]
        return Run(f"without-{group}", seed, left)

    for turn, seed in enumerate(LEAVE_SEEDS):
        yield Run("full", seed, every)
        yield from (without(group, seed) for group in made.groups)
        if turn < 2 * len(HALF_SEEDS):
            number, second = divmod(turn, 2)
            part = range(second * HALVES // 2, (second + 1) * HALVES // 2)
            yield from (half(row, HALF_SEEDS[number]) for row in part)


def generate(network: Any, made: task.Task) -> list[list[int]]:
    """Answers of the full model to the first questions behind the development queries."""
    generator = torch.Generator().manual_seed(FULL_SEED)
    found: list[list[int]] = []
    asked = made.queries[task.DEVELOPMENT : task.DEVELOPMENT + GENERATED]
    for query in asked:
        ids = list(query.input_ids[: made.prompt_length(query)])
        answer: list[int] = []
        with torch.inference_mode():
            while len(answer) < NEW_TOKENS and (not answer or answer[-1] != 2):
                logits = network(input_ids=torch.tensor([ids + answer])).logits[0, -1]
                odds = torch.softmax(logits / TEMPERATURE, dim=-1)
                answer.append(int(torch.multinomial(odds, 1, generator=generator)))
        found.append(answer)
    return found


def generated_queries(made: task.Task, answers: list[list[int]]) -> list[IndexedExample]:
    asked = made.queries[task.DEVELOPMENT : task.DEVELOPMENT + len(answers)]
    found = []
    for query, answer in zip(asked, answers, strict=True):
        length = made.prompt_length(query)
        ids = [*query.input_ids[:length], *answer]
        mask = [0] * length + [1] * len(answer)
        found.append(IndexedExample(f"generated {query.record_id}", query.group_id, ids, mask))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("medquad", type=Path)
    parser.add_argument("--out", type=Path, default=Path(".data/bench/attribution"))
    parser.add_argument("--pack", action="store_true", help="only write what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    made = task.load(options.medquad)
    if not options.pack:
        _go_on(made, options.out)
    _pack(made, options.out)
    return 0


def _go_on(made: task.Task, out: Path) -> None:
    answers_file, runs = out / "generated.json", out / "runs.jsonl"
    if not answers_file.exists():
        answers = generate(training.train(made.records, FULL_SEED), made)
        answers_file.write_text(json.dumps(answers))
    answers = json.loads(answers_file.read_text())
    asked = [*made.queries, *generated_queries(made, answers)]
    done = set(_read(runs))
    with runs.open("a") as lines:
        for run in plan(made):
            if (run.name, run.seed) in done:
                continue
            began = time.process_time()
            network = training.train([made.records[p] for p in run.kept], run.seed)
            found = [round(float(value), 4) for value in training.losses(network, asked)]
            spent = round(time.process_time() - began, 2)
            line = {"run": run.name, "seed": run.seed, "cpu_s": spent, "losses": found}
            lines.write(json.dumps(line) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
            sys.stderr.write(f"{run.name} {run.seed}: {spent} s\n")


def _read(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text().splitlines():
        try:
            run = json.loads(line)
        except ValueError:  # the last line of a process that was killed
            continue
        found[run["run"], run["seed"]] = run
    return found


def _pack(made: task.Task, out: Path) -> None:
    """Whole seeds only: what some subsets have and others have not is left out."""
    runs = _read(out / "runs.jsonl")
    answers = json.loads((out / "generated.json").read_text())
    kept = halves(made)
    rows = [row for row in range(HALVES) if (f"half-{row}", HALF_SEEDS[0]) in runs]
    half_seeds = [s for s in HALF_SEEDS if all((f"half-{row}", s) in runs for row in rows)]
    names = [f"without-{group}" for group in made.groups]
    seeds = [s for s in LEAVE_SEEDS if all((name, s) in runs for name in [*names, "full"])]

    def losses(name: str, seed: int) -> list[float]:
        found: list[float] = runs[name, seed]["losses"]
        return found

    np.savez_compressed(
        FILE,
        halves=np.packbits(kept[rows], axis=1),
        half_losses=np.array(
            [[losses(f"half-{row}", s) for s in half_seeds] for row in rows], dtype=np.float32
        ),
        leave_losses=np.array([[losses(n, s) for s in seeds] for n in names], dtype=np.float32),
        full_losses=np.array([losses("full", s) for s in seeds], dtype=np.float32),
        generated=np.array([token for answer in answers for token in answer], dtype=np.uint16),
        generated_lengths=np.array([len(answer) for answer in answers], dtype=np.uint16),
        records=np.array([record.content_hash[:16] for record in made.records]),
        queries=np.array([query.content_hash[:16] for query in made.queries]),
        cpu_seconds=np.array(sum(run["cpu_s"] for run in runs.values())),
    )
    sys.stderr.write(
        f"{FILE.name}: {len(rows)} halves x {len(half_seeds)} seeds, "
        f"{len(names)} left out x {len(seeds)} seeds\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
