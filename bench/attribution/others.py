"""The methods of others with the settings that were chosen, and what is kept of their runs.

`task_a/search_peers.json` is the log of the choice, made on Task A's development queries alone and
the same for both tasks. A peer that takes more than two minutes, or is not installed, and every
peer on Task B, comes from `peers.npz` in the task's folder: its scores, what they cost and the
day; `--all` makes all of them again. Scores are kept with 11 bits each, every query's scaled to
its largest.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench import report
from bench.attribution import runs
from bench.attribution.peers.bergson import Bergson
from bench.attribution.peers.captum_tracin import CaptumTracIn
from bench.attribution.peers.common import Peer
from bench.attribution.peers.kronfluence import Kronfluence
from bench.attribution.peers.logra import LoGra
from bench.attribution.peers.trak import Trak
from bench.attribution.runs import Run, World

EKFAC = "Kronfluence EK-FAC"
TOO_LONG = 120.0  # CPU seconds


def methods(world: World) -> dict[str, Callable[[], Peer]]:
    """By name; each raises ImportError where it is not installed."""
    network = world.model.network
    # Each lot of queries costs it all the records' gradients. Task A, where its time is compared,
    # asks 16 at once; Task B all, since only its scores are wanted there.
    at_once = 128 if world.name == "b" else 16
    found: dict[str, Callable[[], Peer]] = {
        # Its own heuristic for the damping, which the search preferred.
        EKFAC: lambda: Kronfluence(network, None, at_once),
        "Bergson, 57 KB": lambda: Bergson(network, 16, 0.1, False),
        "Bergson, 14 KB": lambda: Bergson(network, 8, 0.01, False),
        "dattri LoGra, 57 KB": lambda: LoGra(network, 16, 1.0),
        "dattri LoGra, 14 KB": lambda: LoGra(network, 8, None),
        "TRAK": lambda: Trak(network, 4096, 100.0, odds=False),
    }
    if world.checkpoints:  # on Task B left out: it is the gradient dot product, number for number
        found["captum TracInCP"] = lambda: CaptumTracIn([(network, 1.0)])
    return found


def everyone(world: World, again: bool) -> list[Run]:
    """Each of them, measured now or as it was kept; with ``again`` measured and kept."""
    kept = load(world)
    found: list[Run] = []
    for name, make in methods(world).items():
        old = kept.get(name)
        slow = old is not None and old.build_s + old.query_s > TOO_LONG
        if old and not again and (slow or world.name == "b"):
            found.append(old)
            continue
        try:
            sys.stderr.write(f"{name} ...\n")
            found.append(runs.peer(world, name, make))
        except ImportError as error:
            sys.stderr.write(
                f"{name}: {error}. Run bench/attribution/peers/install.sh; "
                f"{f'the run of {old.measured} is shown' if old else 'it is left out'}.\n"
            )
            found += [old] if old else []
            continue
        if again:
            store(world, found)
    return found


def load(world: World) -> dict[str, Run]:
    """What is kept, if it is about the same records and queries."""
    file = _file(world)
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays["facts"]))
        if facts["about"] != _about(world):
            sys.stderr.write(f"{file.name} is about another task and is not used.\n")
            return {}
        found = {}
        for number, one in enumerate(facts["runs"]):
            records = arrays[f"records_{number}"].astype(np.float64)
            found[one["name"]] = Run(records=records, groups=world.sums(records), **one)
        return found


def store(world: World, measured: list[Run]) -> None:
    """Those over the old ones of the same names."""
    today = datetime.now(UTC).date().isoformat()
    every = load(world) | {run.name: run for run in measured}
    facts: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for number, run in enumerate(every.values()):
        largest = np.abs(run.records).max(axis=1, keepdims=True)
        arrays[f"records_{number}"] = (run.records / np.maximum(largest, 1e-300)).astype(np.float16)
        facts.append(
            {
                "name": run.name,
                "build_s": round(run.build_s, 2),
                "query_s": round(run.query_s, 2),
                "bytes_per_record": run.bytes_per_record,
                "peak_mib": round(run.peak_mib, 1),
                "measured": run.measured or today,
            }
        )
    about = {"about": _about(world), "machine": report.machine(), "runs": facts}
    half = _file(world).with_suffix(".part.npz")
    np.savez_compressed(half, facts=np.array(json.dumps(about)), **arrays)
    half.replace(_file(world))


def _file(world: World) -> Path:
    return world.folder / "peers.npz"


def _about(world: World) -> str:
    """Of the records, the queries and the adapter's training."""
    names = [example.digest() for example in [*world.made.records, *world.asked]]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
