"""Settings of the peers on the development queries: `python -m bench.attribution --search-peers`.

Every line goes to `task_a/search_peers.json`, best first; what was chosen stands in `others.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from bench.attribution import search, task
from bench.attribution.peers.bergson import Bergson
from bench.attribution.peers.captum_tracin import CaptumTracIn
from bench.attribution.peers.logra import LoGra
from bench.attribution.peers.trak import Trak
from bench.attribution.runs import World

TRAK = ((512, True), (1024, True), (2048, True), (2048, False), (4096, False))
RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
SIDES = (8, 16)
DAMPINGS = (1e-5, 0.01, 0.1, 1.0)


def main(world: World) -> int:
    """What is there of other parts of the log stays."""
    out = world.folder / "search_peers.json"
    lines = json.loads(out.read_text()) if out.exists() else []
    for part in (_trak, _captum, _logra, _bergson):
        try:
            fresh = list(part(world))
        except ImportError as error:
            sys.stderr.write(f"{part.__name__[1:]} is left out: {error}.\n")
            continue
        names = {line["setting"] for line in fresh}
        lines = [*fresh, *(line for line in lines if line["setting"] not in names)]
        lines.sort(key=lambda line: -line["lds"])
        out.write_text("[\n" + ",\n".join(f" {json.dumps(line)}" for line in lines) + "\n]\n")
    return 0


def _bergson(world: World) -> Iterator[dict[str, Any]]:
    for side in SIDES:
        method = Bergson(world.model.network, side, DAMPINGS[0], unit=False)
        method.fit(world.made.records)
        for damping in DAMPINGS:
            for unit in (False, True):
                method.tune(damping, unit)
                length = "unit length" if unit else "any length"
                yield _line(world, f"Bergson, side {side}, damping {damping:g}, {length}", method)
        method.close()


def _logra(world: World) -> Iterator[dict[str, Any]]:
    for side in SIDES:
        method = LoGra(world.model.network, side, None)
        method.fit(world.made.records)
        for damping in DAMPINGS:
            method.tune(damping)
            yield _line(world, f"dattri LoGra, side {side}, damping {damping:g}", method)


def _trak(world: World) -> Iterator[dict[str, Any]]:
    for dimensions, odds in TRAK:
        method = Trak(world.model.network, dimensions, 1.0, odds)
        method.fit(world.made.records)
        for ridge in RIDGES:
            method.tune(ridge)
            output = "log-odds" if odds else "log-probability"
            yield _line(world, f"TRAK, {dimensions} dimensions, ridge {ridge:g}, {output}", method)
        method.close()


def _captum(world: World) -> Iterator[dict[str, Any]]:
    checkpoints = [(model.network, rate) for model, rate in world.checkpoints]
    for chosen in (checkpoints, [(world.model.network, 1.0)]):
        method = CaptumTracIn(chosen)
        method.fit(world.made.records)
        yield _line(world, f"captum TracInCP, {len(chosen)} checkpoints", method)


def _line(world: World, setting: str, method: Any) -> dict[str, Any]:
    found = search.line(world, setting, method.matrix(world.asked[: task.DEVELOPMENT]))
    return found | {"bytes_per_record": method.bytes_per_record}
