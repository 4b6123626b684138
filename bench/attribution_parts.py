"""The same index by one process in one go, and in parts by one and by two: `python -m
bench.attribution_parts`.

Workers are processes of their own, each with the model in memory before the clock begins, as the
product's have it after their first part. The first plans, all take the next part that nobody has,
and the first puts together what they made, in the folder that they share. So what two gain over
one is what the parts are of the whole: plan and merge stay with one worker. All indexes must have
one root. CPU seconds are those of all workers; times are of the clock, so nothing else may run.

A random Llama (hidden 128, 4 layers, 2,048 tokens) with an adapter of rank 8 on all projections and
random tokens: what is measured is who computes, not what. The fit has an eighth of the records, as
the product's 2,048 are of an index of 16,384.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import report

GATE, READY, DONE = "gate", "ready-{}", "done-{}.json"
PAUSE = 0.005
ALONE = "one process, in one go"
WORKERS = (1, 2)


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--records", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=96, help="of each record, at most")
    parser.add_argument("--shard", type=int, default=64, help="records of a shard")
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--fit", type=int, default=128, help="records of the fit sample, at most")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "RANK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options, Path(options.worker[0]), int(options.worker[1]))
        return 0
    result = report.Report("attribution_parts", options)
    with tempfile.TemporaryDirectory() as name:
        _measure(result, options, Path(name))
    return result.finish()


def _measure(result: report.Report, options: argparse.Namespace, folder: Path) -> None:
    _model(folder)
    ways = {ALONE: 0} | {f"{n} worker{'s' * (n > 1)}, {options.parts} parts": n for n in WORKERS}
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for turn in range(options.rounds):
        # Each second round backwards, so that none is always the first.
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            told[name].append(_run(options, folder, ways[name]))
    roots = {one["root"] for runs in told.values() for one in runs}
    for name, runs in told.items():
        result.add(f"{name}: wall", min(one["wall"] for one in runs), "s")
        result.add(f"{name}: CPU of all", min(one["cpu"] for one in runs), "s")
        best = min(runs, key=lambda one: one["wall"])
        for phase, seconds in zip(("plan", "parts", "merge"), best["phases"], strict=False):
            result.add(f"{name}: wall of {phase}", seconds, "s")
    alone, one, two = ([run["wall"] for run in runs] for runs in told.values())
    result.add("wall of 1 worker in parts / in one go", min(one) / min(alone), "x")
    result.add("wall of 1 worker / of 2", min(one) / min(two), "x")
    cpu = [min(run["cpu"] for run in runs) for runs in told.values()]
    result.add("CPU of 2 workers / in one go", cpu[2] / cpu[0], "x")
    result.add("different roots", len(roots), "", at_most=1)


def _run(options: argparse.Namespace, folder: Path, workers: int) -> dict[str, Any]:
    """One build by so many workers, or by none: in one go. Its root, wall and CPU seconds."""
    work = Path(tempfile.mkdtemp(dir=folder, prefix="run-"))
    (work / "workers").write_text(str(workers))
    count = max(1, workers)
    named = ("records", "tokens", "shard", "parts", "fit")
    kept = [f"--{name}={getattr(options, name)}" for name in named]
    command = [sys.executable, "-m", "bench.attribution_parts", *kept, "--worker", str(work)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([*command, str(n)], env=environment) for n in range(count)]
    try:
        _until(lambda: all((work / READY.format(n)).exists() for n in range(count)), processes)
        began = time.perf_counter()
        (work / GATE).touch()
        _until(lambda: (work / DONE.format(0)).exists(), processes)
        wall = time.perf_counter() - began
        for process in processes:
            if process.wait():
                raise SystemExit("A worker failed; its error stands above.")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    told = [json.loads((work / DONE.format(n)).read_text()) for n in range(count)]
    shutil.rmtree(work)
    cpu = sum(one["cpu"] for one in told)
    return {"root": told[0]["root"], "wall": wall, "cpu": cpu, "phases": told[0]["phases"]}


def _until(look: Any, processes: Any = ()) -> None:
    while not look():
        if any(process.poll() for process in processes):
            raise SystemExit("A worker failed; its error stands above.")
        time.sleep(PAUSE)


def _work(options: argparse.Namespace, work: Path, rank: int) -> None:
    import torch

    from attribution.influence.build import build_with
    from attribution.influence.config import InfluenceConfig
    from attribution.influence.model import load
    from attribution.influence.parts import Plan, make_part, merge, plan

    torch.set_num_threads(1)
    workers = int((work / "workers").read_text())
    model = load(work.parent / "base", work.parent / "adapter", "cpu")
    config = InfluenceConfig(fit_min=64, fit_max=options.fit, shard_records=options.shard)
    examples = _records(options)
    (work / READY.format(rank)).touch()
    _until((work / GATE).exists)
    began, out, told = time.process_time(), work / "index", ""
    marks = [time.perf_counter()]
    if not workers:
        told = build_with(model, config, examples, out).root
    else:
        if rank == 0:
            made = plan(model, config, examples, out, options.parts).folder
            (work / "plan.partial").write_text(str(made))
            (work / "plan.partial").replace(work / "plan")
            marks.append(time.perf_counter())
        _until((work / "plan").exists)
        planned = Plan.open(Path((work / "plan").read_text()))
        for number in _parts(work, len(planned.parts)):
            make_part(model, planned, number)
            (work / f"made-{number}").touch()
        if rank == 0:
            _until(lambda: all((work / f"made-{n}").exists() for n in range(len(planned.parts))))
            marks.append(time.perf_counter())
            told = merge(model, planned, out).root
            marks.append(time.perf_counter())
    phases = [end - begin for begin, end in pairwise(marks)]
    done = {"root": told, "cpu": time.process_time() - began, "phases": phases}
    (work / f"partial-{rank}").write_text(json.dumps(done))
    (work / f"partial-{rank}").replace(work / DONE.format(rank))


def _parts(work: Path, count: int) -> Iterator[int]:
    """The parts that this worker is the first to ask for, one after the other."""
    for number in range(count):
        try:
            (work / f"claim-{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        yield number


def _records(options: argparse.Namespace) -> list[Any]:
    import numpy as np

    from attribution.influence.examples import IndexedExample

    draw, made = np.random.default_rng(0), []
    for number in range(options.records):
        length = int(draw.integers(options.tokens // 2, options.tokens + 1))
        ids = [int(token) for token in draw.integers(0, 2048, length)]
        mask = [0] * (length // 3) + [1] * (length - length // 3)
        made.append(IndexedExample(f"record-{number:06d}", f"group-{number % 16:02d}", ids, mask))
    return made


def _model(folder: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=2048, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
            initializer_range=0.2,
        )
    )  # fmt: skip
    base.save_pretrained(folder / "base")
    lora = LoraConfig(
        r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(base, lora).save_pretrained(str(folder / "adapter"))


if __name__ == "__main__":
    raise SystemExit(main())
