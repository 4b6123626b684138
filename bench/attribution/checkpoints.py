"""What averaging influence over checkpoints gives and costs on Task A: `--checkpoints`.

The full model is trained once more with its adapter kept on the way, and indexed by the product
over the last state alone and over several, with the choices that `InfluenceConfig` has. Figures are
of the held-out and the generated answers; the development queries' LDS stands beside them, since by
it alone a choice may be made.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from attribution.influence.checkpoints import State, averaged
from attribution.influence.config import InfluenceConfig
from attribution.influence.index import file_sha256
from attribution.influence.model import ADAPTER_FILE
from bench import report
from bench.attribution import metrics, runs, task, training, truth
from bench.attribution.runs import Run, World
from modelfactory.training.adapters import save_adapter

CHOICES = (
    ("one checkpoint", InfluenceConfig()),
    ("2", InfluenceConfig(checkpoints=2)),
    ("2, even", InfluenceConfig(checkpoints=2, checkpoint_weights="even")),
    ("2, last factors", InfluenceConfig(checkpoints=2, checkpoint_factors="last")),
    ("4", InfluenceConfig(checkpoints=4)),
)
DEVELOPMENT = slice(0, task.DEVELOPMENT)


def main(result: report.Report, world: World) -> int:
    lines = [
        f"{'checkpoints':18} {'row':18} {'dev LDS':>7} {'LDS':>6} {'95 %':>13} {'P':>6} {'TV':>6} "
        f"{'gen LDS':>7} {'gen P':>6} {'build':>7} {'query':>7} {'B/record':>9}"
    ]
    with tempfile.TemporaryDirectory(prefix="bench-checkpoints-") as folder:
        most = max(config.checkpoints for _, config in CHOICES)
        kept = states(world, most, Path(folder))
        alone = replace(world.model, adapter_sha256=file_sha256(kept[-1].path))
        base: dict[str, metrics.Quality] = {}
        for name, config in CHOICES:
            sys.stderr.write(f"{name} ...\n")
            model = averaged(alone, thinned(kept, config.checkpoints), config)
            for run in runs.ours(replace(world, model=model), config, name):
                row = run.name.removeprefix(f"{name}: ")
                quality = [_judged(run, world, part)
                           for part in (DEVELOPMENT, world.held_out, world.generated)]  # fmt: skip
                lines.append(_line(name, row, run, *quality))
                base.setdefault(row, quality[1])
                if config.checkpoints > 1:
                    _add(result, f"{name}: {row}", quality[1], base[row])
    sys.stdout.write("\n".join([*lines, "", ""]))
    return result.finish()


def states(world: World, count: int, folder: Path) -> list[State]:
    """The adapter after each of ``count`` equal stretches of the full model's training."""
    steps = training.EPOCHS * -(-len(world.made.records) // training.TASK_A.batch)
    rates = [training.TASK_A.learning_rate * (1 - step / steps) for step in range(steps)]
    ends = [round(steps * (place + 1) / count) for place in range(count)]
    training.train(world.made.records, truth.FULL_SEED, after_step=_keeper(ends, folder))
    begins = [0, *ends[:-1]]
    return [
        State(folder / str(end) / ADAPTER_FILE, sum(rates[begin:end]))
        for begin, end in zip(begins, ends, strict=True)
    ]


def _keeper(ends: list[int], folder: Path) -> Callable[[int, Any], None]:
    def keep(step: int, network: Any) -> None:
        if step in ends:
            save_adapter(network, folder / str(step))

    return keep


def thinned(kept: list[State], count: int) -> list[State]:
    """Every so-many-th of them, with the learning rates of those between."""
    size = len(kept) // count
    parts = [kept[at : at + size] for at in range(0, len(kept), size)]
    return [State(part[-1].path, sum(state.rates for state in part)) for part in parts]


def _judged(run: Run, world: World, part: slice) -> metrics.Quality:
    return metrics.judge(run.records[part], run.groups[part], world.known.of(part))


def _line(
    name: str,
    row: str,
    run: Run,
    development: metrics.Quality,
    held_out: metrics.Quality,
    generated: metrics.Quality,
) -> str:
    low, high = metrics.interval(held_out.lds)
    return (
        f"{name:18} {row:18} {development.lds.mean():7.3f} {held_out.lds.mean():6.3f} "
        f"{low:6.3f} {high:6.3f} {held_out.pearson.mean():6.3f} {held_out.variation.mean():6.3f} "
        f"{generated.lds.mean():7.3f} {generated.pearson.mean():6.3f} {run.build_s:7.1f} "
        f"{run.query_s:7.1f} {run.bytes_per_record:9.0f}"
    )


def _add(result: report.Report, name: str, mine: metrics.Quality, one: metrics.Quality) -> None:
    for figure in ("lds", "pearson"):
        a, b = getattr(mine, figure), getattr(one, figure)
        low, high = metrics.ratio_interval(a, b)
        result.add(f"{figure}: {name} / one checkpoint", float(a.mean() / b.mean()), "x",
                   note=f"95 %: {low:.3f} to {high:.3f}")  # fmt: skip
