"""How much of the quality each part of the coordinates keeps: `--coordinates`.

The strongest coordinates of the whitened gradients, from a sixty-fourth to all: told exactly, and
as signs after a turn (`attribution/influence/rotation.py`), as a sketch has them. The figure is LDS
on the held-out queries over that of Kronfluence's EK-FAC in the cache. Writes `coordinates.json`
into the task's folder and draws those of all tasks into `docs/attribution-coordinates.svg`.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.fit import fit_sample
from attribution.influence.index import Index
from attribution.influence.quantise import clip_norms
from attribution.influence.rotation import turn, usual_sizes
from attribution.influence.scorer import Scorer
from bench.attribution import metrics, others, runs, task, task_b
from bench.attribution.runs import World

FRACTIONS = tuple(2.0**-power for power in range(6, -1, -1))
ROWS = 64  # turned at once
KINDS = {"exact": "5 4", "signs": "none"}  # how their curves are dashed
LINE = 15  # of the figure's words
FIGURE = Path(__file__).resolve().parents[2] / "docs" / "attribution-coordinates.svg"
Floats = NDArray[np.float32]


def main(world: World) -> int:
    peer = others.load(world).get(others.EKFAC)
    if peer is None:
        sys.stderr.write(f"{others.EKFAC} is not in the cache: run with --all first.\n")
        return 1
    theirs = _lds(world, peer.records)
    config = InfluenceConfig()
    with tempfile.TemporaryDirectory(prefix="bench-coordinates-") as folder:
        build_with(world.model, config, world.made.records, Path(folder))
        scorer = Scorer.of(Index.open(folder), world.model)
        records = runs.whitened(scorer, world.made.records, config)
        queries = runs.whitened(scorer, world.asked, config)
    norms = np.linalg.norm(records, axis=1)
    sample = fit_sample(len(records), config)
    strength = np.square(records[sample] / norms[sample, None]).sum(axis=0, dtype=np.float64)
    clip = float(np.percentile(norms[sample], config.sketch_clip_percentile))
    records *= clip_norms(records, clip)[:, None]
    order = np.argsort(-strength, kind="stable")
    records, queries, strength = records[:, order], queries[:, order], strength[order]
    lines: list[dict[str, Any]] = []
    for fraction in FRACTIONS:
        block = config.sketch_block
        width = max(block, round(fraction * len(strength)) // block * block)
        exact = (queries[:, :width] @ records[:, :width].T).astype(np.float64)
        signs = _signs(records, queries, strength, width, block)
        line: dict[str, Any] = {"fraction": fraction, "coordinates": width}
        for name, found in (("exact", exact), ("signs", signs)):
            mine = _lds(world, found)
            low, high = metrics.ratio_interval(mine, theirs)
            line[name] = [round(float(v), 4) for v in (mine.mean() / theirs.mean(), low, high)]
        lines.append(line)
        sys.stdout.write(f"{json.dumps(line)}\n")
    (world.folder / "coordinates.json").write_text(
        "[\n" + ",\n".join(f" {json.dumps(line)}" for line in lines) + "\n]\n"
    )
    draw()
    return 0


def _lds(world: World, records: NDArray[np.float64]) -> NDArray[np.float64]:
    part = world.held_out
    return metrics.judge(records[part], world.sums(records[part]), world.known.of(part)).lds


def _signs(
    records: Floats, queries: Floats, strength: NDArray[np.float64], width: int, block: int
) -> NDArray[np.float64]:
    """Scores by signs of turned coordinates, each with its usual size, times the norm that fits."""
    sizes = usual_sizes(strength[:width], block).astype(np.float32)
    asked = turn(np.ascontiguousarray(queries[:, :width]), block)
    found = np.empty((len(queries), len(records)))
    for begin in range(0, len(records), ROWS):
        turned = turn(np.ascontiguousarray(records[begin : begin + ROWS, :width]), block)
        codes = np.sign(turned) * sizes
        fit = (turned * codes).sum(axis=1) / np.square(codes).sum(axis=1)
        found[:, begin : begin + ROWS] = (asked @ codes.T) * fit
    return found


def draw() -> None:
    """All tasks that were measured, as one SVG that follows the page's colours."""
    left, right, top, bottom = 64, 560, 24, 300
    floor = 0.4

    def place(fraction: float, ratio: float) -> tuple[float, float]:
        x = left + (right - left) * (1 + math.log2(fraction) / 6)
        return x, bottom - (bottom - top) * (max(ratio, floor) - floor) / (1.05 - floor)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" role="img" '
        'font-family="sans-serif" font-size="13" fill="#667">',
        "<title>LDS over Kronfluence's, by the part of the coordinates that is kept</title>",
    ]
    for ratio in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        _, y = place(1, ratio)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#8884" fill="none"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{ratio:.1f}</text>')
    for fraction in FRACTIONS:
        x, _ = place(fraction, 1)
        words = "all" if fraction == 1 else f"1/{round(1 / fraction)}"
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{words}</text>')
    middle = (left + right) / 2
    parts.append(f'<text x="{middle}" y="{bottom + 44}" text-anchor="middle">'
                 "part of the coordinates that is kept</text>")  # fmt: skip
    ends: list[tuple[float, str, str]] = []
    for name, folder, colour in (("A", task.FOLDER, "#3b82c4"), ("B", task_b.FOLDER, "#d9822b")):
        file = folder / "coordinates.json"
        if file.exists():
            lines = json.loads(file.read_text())
            parts += _curves(lines, colour, place)
            ends += [(place(1, lines[-1][k][0])[1], f"{name} {k}", colour) for k in KINDS]
    # Where curves end alike their names stand below one another, around the middle of all.
    middle_of_ends = sum(y for y, _, _ in ends) / max(1, len(ends))
    for at, (_, words, colour) in enumerate(sorted(ends)):
        y = middle_of_ends + 4 + LINE * (at - (len(ends) - 1) / 2)
        parts.append(f'<text x="{right + 8}" y="{y:.1f}" fill="{colour}">{words}</text>')
    FIGURE.write_text("\n".join([*parts, "</svg>", ""]))


def _curves(lines: list[dict[str, Any]], colour: str, place: Any) -> list[str]:
    """Exact coordinates dashed, signs drawn through with their interval."""
    parts = []
    for kind, dash in KINDS.items():
        points = [place(line["fraction"], line[kind][0]) for line in lines]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        if kind == "signs":
            for line in lines:
                (x, low), (_, high) = (place(line["fraction"], line[kind][n]) for n in (1, 2))
                parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}"/>')
    return parts
