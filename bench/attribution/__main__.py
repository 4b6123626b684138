"""How right attribution is, against retraining: `python -m bench.attribution --medquad FOLDER`.

A task (`--task a`: `task.py`; `--task b`, harder: `task_b.py`, and `b-large` where its truth was
made) is trained once, indexed by the product and by its peers, and every method is held against the
committed truth (`truth.py`, `truth_b.py`): losses after training on halves of the records and
without each contributor. Settings were chosen on the first 20 queries (`--search`,
`--search-peers` do it again and write the logs); figures are of the others, and of answers that
the model generated. Bars are ratios to Kronfluence's EK-FAC.

The peers are installed by `bench/attribution/peers/install.sh`; those that take more than two
minutes come from a dated cache, which `--all` makes again. One thread.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attribution.influence.config import InfluenceConfig
from bench import report
from bench.attribution import metrics, others, runs, task_b, truth_b
from bench.attribution.metrics import Quality
from bench.attribution.others import EKFAC
from bench.attribution.runs import Run, World

PEERS = Path(".data/bench/peers")
SMALL = 27_136  # coordinates of a sketch of 1.7 KB: 1,698 bytes
PAID, WHOLE, SKETCH = "sums (paid)", "whitened, fp32", "sketches"


@dataclass(frozen=True, slots=True)
class Judged:
    """A method's run with its quality on held-out and on generated answers."""

    run: Run
    held_out: Quality
    generated: Quality


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--medquad", type=Path, default=Path("../shared/data/medquad"))
    parser.add_argument("--peers", type=Path, default=PEERS, help="where install.sh put them")
    parser.add_argument("--task", choices=("a", "b", "b-large"), default="a")
    parser.add_argument("--all", action="store_true", help="measure all peers, write the cache")
    parser.add_argument("--search-peers", action="store_true", help="the same for the peers")
    parser.add_argument("--coordinates", action="store_true", help="quality by coordinates kept")
    parser.add_argument(
        "--checkpoints", action="store_true", help="influence averaged over checkpoints (Task A)"
    )
    parser.add_argument(
        "--second-order", action="store_true", help="groups' effects to second order"
    )
    parser.add_argument("--exact", action="store_true", help="the exact audit (Task A)")
    parser.add_argument("--planted", action="store_true", help="who finds planted records")
    parser.add_argument("--search", action="store_true", help="choose settings, write the log")
    parser.add_argument(
        "--mislabelled", action="store_true", help="who finds wrong answers, and nothing else"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peers.is_dir():
        sys.path.append(str(options.peers))
    result = Attribution("attribution", options)
    if options.mislabelled:
        from bench.attribution import mislabelled

        return mislabelled.main(
            report.Report("attribution, wrong answers", options), options.medquad
        )
    if options.planted:
        from bench.attribution import planted

        return planted.main(report.Report("attribution, planted records", options), options.medquad)
    forms = {"b": task_b.PLAIN, "b-large": task_b.LARGE}
    world = (
        runs.prepare_b(options.medquad, forms[options.task])
        if options.task in forms
        else runs.prepare(options.medquad)
    )
    if options.search:
        from bench.attribution import search

        return search.main(world)
    if options.search_peers:
        from bench.attribution import search_peers

        return search_peers.main(world)
    if options.coordinates:
        from bench.attribution import coordinates

        return coordinates.main(world)
    if options.checkpoints:
        from bench.attribution import checkpoints

        return checkpoints.main(report.Report("attribution, checkpoints", options), world)
    if options.second_order:
        from bench.attribution import second_order

        return second_order.main(report.Report("attribution, second order", options), world)
    if options.exact:
        from bench.attribution import exact_audit

        return exact_audit.main(report.Report("attribution, exact audit", options), world)
    judged = {run.name: _judge(run, world) for run in _every(world, options.all)}
    sys.stdout.write(_table(judged, world))
    result.methods = [_as_json(name, one) for name, one in judged.items()]
    _bars(result, judged, world)
    return result.finish()


class Attribution(report.Report):
    """A report that carries the table of methods in its JSON."""

    methods: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {"methods": self.methods}


def _every(world: World, again: bool) -> list[Run]:
    config = InfluenceConfig()
    found = runs.ours(world, config)
    if world.name == "a":
        small = runs.ours(world, replace(config, sketch_width=SMALL), "ours, 1.7 KB")
        found += [run for run in small if run.name.endswith(SKETCH)]
    for name, method in runs.baseline_methods(world).items():
        _say(name)
        found.append(runs.baseline(world, name, method))
    return found + others.everyone(world, again)


def _judge(run: Run, world: World) -> Judged:
    return Judged(
        run,
        *(
            metrics.judge(run.records[part], run.groups[part], world.known.of(part))
            for part in (world.held_out, world.generated)
        ),
    )


def _bars(result: Attribution, judged: dict[str, Judged], world: World) -> None:
    known = world.known
    if world.name == "b":
        made, want = world.truth.runs, truth_b.RUNS
        result.add("retrainings of the truth", made, f"of {want}", at_least=want)
    else:
        result.add("half-subsets", len(known.half_losses), "retrainings", at_least=48)
        result.add("seeds of halves", known.half_losses.shape[1], "", at_least=2)
        result.add("seeds of left-out contributors", known.leave_losses.shape[1], "", at_least=6)
    for what, part in (("held-out", world.held_out), ("generated", world.generated)):
        result.add(f"queries, {what}", known.of(part).full_losses.shape[1], "", at_least=40)
        for name, value in metrics.ceilings(known.of(part)).items():
            if math.isfinite(value):
                result.add(f"noise ceiling of {name}, {what}", value, "")
    if EKFAC not in judged:
        result.add("peer for the ratios", 0, "", at_least=1, note="Kronfluence is not installed")
        return
    peer = judged[EKFAC]
    _quality_bars(result, judged, peer, BARS_B if world.name == "b" else BARS_A)
    _above_storing_peers(result, judged)
    if world.name == "a":
        _cost_bars(result, judged, peer, world)


# (method, figure, at least, at most), as ratios to Kronfluence's EK-FAC
BARS_A = (
    (f"ours: {WHOLE}", "lds", 0.99, None),
    (f"ours: {PAID}", "pearson", 0.98, None),
    (f"ours: {PAID}", "variation", None, 1.05),
    (f"ours: {SKETCH}", "lds", 0.95, None),
    (f"ours, 1.7 KB: {SKETCH}", "lds", 0.89, None),
)
BARS_B = (
    (f"ours: {PAID}", "pearson", 0.97, None),
    (f"ours: {SKETCH}", "lds", 0.80, None),
)


def _quality_bars(
    result: Attribution, judged: dict[str, Judged], peer: Judged, ratios: Sequence[Any]
) -> None:
    for name, figure, least, most in ratios:
        mine = getattr(judged[name].held_out, figure)
        theirs = getattr(peer.held_out, figure)
        low, high = metrics.ratio_interval(mine, theirs)
        result.add(
            f"{figure}: {name} / Kronfluence",
            float(mine.mean() / theirs.mean()),
            "x",
            at_least=least,
            at_most=most,
            note=f"95 %: {low:.3f} to {high:.3f}",
        )


def _above_storing_peers(result: Attribution, judged: dict[str, Judged]) -> None:
    """Our sketches against every other method that keeps 1 to 20 KB of a record."""
    mine = judged[f"ours: {SKETCH}"].held_out.lds
    for name, one in judged.items():
        if name.startswith("ours") or not 1_000 <= one.run.bytes_per_record <= 20_000:
            continue
        low, high = metrics.ratio_interval(mine, one.held_out.lds)
        result.add(
            f"lds: ours: {SKETCH} / {name}",
            float(mine.mean() / one.held_out.lds.mean()),
            "x",
            at_least=1.0,
            note=f"{one.run.bytes_per_record:,.0f} B; 95 %: {low:.3f} to {high:.3f}",
        )


def _cost_bars(result: Attribution, judged: dict[str, Judged], peer: Judged, world: World) -> None:
    sketches, paid = judged[f"ours: {SKETCH}"].run, judged[f"ours: {PAID}"].run
    _say("three epochs of plain PEFT")
    epochs = 3 * statistics.median(runs.plain_epochs(world))
    result.add("bytes a record", sketches.bytes_per_record, "B", at_most=4_100)
    result.add("query / Kronfluence's, with gradient and rotation",
               sketches.query_s / peer.run.query_s, "x", at_most=0.1)  # fmt: skip
    result.add("scoring sums / Kronfluence's query", paid.scoring_s / peer.run.query_s, "x",
               at_most=0.01)  # fmt: skip
    result.add("scoring sketches / Kronfluence's query", sketches.scoring_s / peer.run.query_s,
               "x", at_most=0.01)  # fmt: skip
    result.add("build / three PEFT epochs", sketches.build_s / epochs, "x", at_most=2.6)
    result.add("three PEFT epochs", epochs, "CPU s")
    result.add("the whole run", time.process_time(), "CPU s", at_most=600)


def _as_json(name: str, one: Judged) -> dict[str, Any]:
    found: dict[str, Any] = {
        "method": name,
        "build_cpu_s": round(one.run.build_s, 3),
        "query_cpu_s": round(one.run.query_s, 3),
        "queries": len(one.run.records),
        "bytes_per_record": round(one.run.bytes_per_record),
        "peak_mib": round(one.run.peak_mib, 1),
        "measured": one.run.measured or "in this run",
    }
    for where, quality in (("held_out", one.held_out), ("generated", one.generated)):
        for figure in ("lds", "pearson", "spearman", "top1", "variation"):
            values = getattr(quality, figure)
            low, high = metrics.interval(values)
            found[f"{where}_{figure}"] = {
                "mean": round(float(values.mean()), 4),
                "interval": [round(low, 4), round(high, 4)],
            }
    return found


def _table(judged: dict[str, Judged], world: World) -> str:
    count = len(world.made.records)
    lines = [
        f"{count} records, {len(world.made.groups)} contributors, "
        f"{world.known.of(world.held_out).full_losses.shape[1]} held-out queries, "
        f"{world.known.of(world.generated).full_losses.shape[1]} generated answers; "
        f"{world.model.dimension} LoRA parameters; CPU seconds of one thread, "
        f"queries' for all {len(world.asked)} together",
        "",
        f"{'method':32} {'LDS':>5} {'95 %':>13} {'P':>6} {'S':>6} {'top1':>5} {'TV':>5}   "
        f"{'gen LDS':>7} {'gen P':>6} {'build':>7} {'query':>7} {'B/record':>8} "
        f"{'MiB':>6}",
    ]
    for name, one in sorted(judged.items(), key=lambda pair: -float(pair[1].held_out.lds.mean())):
        quality, run = one.held_out, one.run
        low, high = metrics.interval(quality.lds)
        means = [float(np.mean(getattr(quality, f)))
                 for f in ("lds", "pearson", "spearman", "top1", "variation")]  # fmt: skip
        lines.append(
            f"{name:32} {means[0]:5.3f} {low:6.3f} {high:6.3f} {means[1]:6.3f} {means[2]:6.3f} "
            f"{means[3]:5.2f} {means[4]:5.3f}   {one.generated.lds.mean():7.3f} "
            f"{one.generated.pearson.mean():6.3f} {run.build_s:7.2f} {run.query_s:7.2f} "
            f"{run.bytes_per_record:8.0f} {run.peak_mib:6.0f}"
            f"{f'  of {run.measured}' if run.measured else ''}"
        )
    return "\n".join([*lines, "", ""])


def _say(name: str) -> None:
    sys.stderr.write(f"{name} ...\n")


if __name__ == "__main__":
    raise SystemExit(main())
