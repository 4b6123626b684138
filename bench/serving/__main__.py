"""How fast the engine decodes beside transformers and PEFT, and what thousands of adapters cost.

A random Llama of 34 million parameters, rank 8 on all seven projections, every row another adapter,
float32 with a stated number of threads. transformers is its decode step with DynamicCache and sdpa;
PEFT is its mixed batch (`adapter_names=`); ours is the scheduler's whole turn. All peers of a batch
decode the same contexts (32 to 96 tokens, and from 512), a few steps in turn, each round another
order; a figure is the median of the rounds' ratios, where each pair met the same machine.
`--parts` picks some of: steps, int8, long, resident, one, memory, arrivals, http. In int8 the
base's weights are bytes; whether they may be is judged on the starter, never on random weights.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import report
from bench.serving import arrivals, http, memory
from bench.serving.peers import Ours, Peer, Transformers, mixed_peft, prompts_of
from bench.serving.shape import make_adapter, make_base
from config.embedded.paths import REPOSITORY
from serving.engine.adapters import adapter_name, file_sha256, read_config
from serving.engine.backend import Batch
from serving.engine.base import load_base
from serving.engine.choosing import Needs, choose, native_of
from serving.engine.native.backend import NativeBackend
from serving.engine.quality import compare, evaluation_of

PARTS = ("steps", "int8", "long", "resident", "one", "memory", "arrivals", "http")
STEPS = 8  # of a peer's turn
STARTER = REPOSITORY / "modelfactory" / "starter"
BASE, ADAPTED, BYTES, HUGGING, PEFT = (
    "engine, base",
    "engine, adapters",
    "engine, adapters, int8",
    "transformers, base",
    "PEFT mixed",
)


class House:
    """The base, its adapters, and the backends that share its packed weights."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self.parameters = make_base(folder / "base")
        self.model, self.base = load_base(folder / "base", device="cpu", dtype="float32")
        self.adapters: list[tuple[str, Path]] = []

    def grow(self, count: int) -> list[tuple[str, Path]]:
        """(name, folder) of the first `count` adapters, made where they are missing."""
        for seed in range(len(self.adapters), count):
            made = make_adapter(self.model, self.folder / f"adapter{seed}", seed)
            config = read_config(made / "adapter_config.json")
            sha256 = file_sha256(made / "adapter_model.safetensors")
            self.adapters.append((adapter_name(sha256, config), made))
        return self.adapters[:count]

    def backend(self, name: str, slots: int = 32, *, int8: bool = False) -> NativeBackend:
        needs = Needs(
            slots=slots,
            context=self.base.context,
            threads=self.threads,
            cache_bytes=1 << 30,
            store=self.folder / name,
            warm_bytes=1 << 30,
            max_adapters=64,
            base_sha256=None,
        )
        found = (
            native_of(self.model, needs, int8=True) if int8 else choose(self.model, needs, "native")
        )
        assert isinstance(found, NativeBackend)
        return found

    def ours(self, name: str, adapters: int, *, int8: bool = False) -> Ours:
        backend = self.backend(name, int8=int8)
        chosen = self.grow(adapters)
        for one, source in chosen:
            backend.load(one, source)
        return Ours(backend, self.base, [one for one, _ in chosen])


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=24, help="of 8 steps for each peer")
    parser.add_argument("--pairs", type=int, default=200, help="base rows beside 64 adapters")
    parser.add_argument("--registered", type=int, default=10_000, help="of a page, for memory")
    parser.add_argument("--served", type=int, default=10_000, help="of full size, for arrivals")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each trace of arrivals")
    parser.add_argument("--http-rounds", type=int, default=7, help="through HTTP beside alone")
    parser.add_argument("--http-seconds", type=float, default=8.0, help="of each of the two")
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    torch.set_num_threads(options.threads)
    result = report.Report("serving", options)
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as name:
        house = House(Path(name), options.threads)
        result.add("parameters of the base", house.parameters / 1e6, "M")
        if "steps" in parts:
            for batch in (8, 32):
                decode(result, house, batch, 32, options.rounds, bars=True)
        if "int8" in parts:
            in_bytes(result, house, options.rounds)
        if "long" in parts:
            for batch in (8, 32):
                decode(result, house, batch, 512, max(options.rounds // 2, 2), bars=False)
        if "resident" in parts:
            resident(result, house, options.pairs)
        if "one" in parts:
            alone(result, house, options.rounds)
        if "memory" in parts:
            memory.measure(result, house, options.registered)
        if "arrivals" in parts:
            arrivals.measure(result, house, options.served, options.seconds)
        if "http" in parts:
            http.measure(result, house, options.http_rounds, options.http_seconds)
    return result.finish()


def decode(
    result: report.Report, house: House, batch: int, context: int, rounds: int, *, bars: bool
) -> None:
    """Rates of all peers at one batch, and the ratios that the bars speak of."""
    rows = house.grow(batch)
    peers: dict[str, Peer] = {
        BASE: house.ours("packed", 0),
        ADAPTED: house.ours("packed", batch),
        HUGGING: Transformers(house.model),
    }
    if bars:
        separate, _ = load_base(house.folder / "base", device="cpu", dtype="float32")
        peers[PEFT] = mixed_peft(separate, [folder for _, folder in rows])
        off = _off(peers[ADAPTED], peers[PEFT], batch)
        result.add(f"batch {batch}: logits off PEFT's", off, "of the largest", at_most=1e-5)
    seconds = _rounds(peers, batch, context, rounds)
    place = f"batch {batch}, context {context}"
    for name, each in seconds.items():
        rate = batch * STEPS / statistics.median(each)
        result.add(f"{place}: {name}", rate, "tokens/s")
    limits: dict[tuple[str, str], float | None] = {
        (BASE, HUGGING): 1.45 if batch == 8 else 1.35,
        (ADAPTED, BASE): 0.90 if batch == 8 else 0.85,
        (ADAPTED, HUGGING): None if batch == 8 else 1.2,
        (ADAPTED, PEFT): None if batch == 8 else 6.0,
    }
    for (ours, peer), bar in limits.items():
        if peer in seconds:
            ratio = statistics.median(
                b / a for a, b in zip(seconds[ours], seconds[peer], strict=True)
            )
            result.add(f"{place}: {ours} / {peer}", ratio, "x", at_least=bar if bars else None)


def in_bytes(result: report.Report, house: House, rounds: int) -> None:
    """The gate on the starter, then rates at batch 32 of the same random base as everywhere."""
    model, base = load_base(STARTER, device="cpu", dtype="float32")
    starter = House.__new__(House)
    starter.folder, starter.threads, starter.model, starter.base = house.folder, 1, model, base
    told = compare(
        starter.backend("starter"),
        starter.backend("starter", int8=True),
        evaluation_of(STARTER),
        base.context,
    )
    note = f"{told.tokens:,} tokens"
    result.add("starter: perplexity, int8 / float32", told.perplexity, "x", at_most=1.01, note=note)
    result.add("starter: the same best token", told.agreement, "of tokens", at_least=0.98)
    rows = house.grow(32)
    separate, _ = load_base(house.folder / "base", device="cpu", dtype="float32")
    peers: dict[str, Peer] = {
        BYTES: house.ours("packed", 32, int8=True),
        ADAPTED: house.ours("packed", 32),
        HUGGING: Transformers(house.model),
        PEFT: mixed_peft(separate, [folder for _, folder in rows]),
    }
    seconds = _rounds(peers, 32, 32, rounds)
    for peer, bar in ((ADAPTED, None), (HUGGING, 1.7), (PEFT, 9.0)):
        pairs = zip(seconds[BYTES], seconds[peer], strict=True)
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        result.add(f"batch 32, context 32: {BYTES} / {peer}", ratio, "x", at_least=bar)


def _rounds(
    peers: dict[str, Peer], batch: int, context: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of STEPS steps, round by round; every peer starts again after 64 tokens."""
    found: dict[str, list[float]] = {name: [] for name in peers}
    prompts = prompts_of(batch, context)
    for number in range(rounds):
        if number % (64 // STEPS) == 0:
            for peer in peers.values():
                peer.begin(prompts, 64 + 2)
        order = list(peers) if number % 2 == 0 else list(reversed(list(peers)))
        for name in order:
            found[name].append(peers[name].steps(STEPS))
        _say(f"batch {batch} from {context}: round {number + 1}/{rounds}")
    return found


def _off(ours: Any, peft: Any, batch: int) -> float:
    """The largest difference of the first logits, as a part of the largest logit."""
    seen: list[torch.Tensor] = []
    plain = ours.backend.forward

    def watched(given: Batch) -> torch.Tensor:
        seen.append(plain(given))
        return seen[-1]

    ours.backend.forward = watched
    try:
        ours.begin(prompts_of(batch, 40), 2)
    finally:
        del ours.backend.forward
    peft.begin(prompts_of(batch, 40), 2)
    return float((seen[0] - peft.logits).abs().max() / peft.logits.abs().max())


def resident(result: report.Report, house: House, pairs: int) -> None:
    """Base rows through the path of adapters, 64 of them resident, beside no adapters at all."""
    off, on = house.ours("none", 0), house.ours("packed", 64)
    on.adapters = []
    on.backend.always_adapt = True
    prompts = prompts_of(32, 32)
    ratios = []
    for pair in range(pairs):
        if pair % 20 == 0:
            off.begin(prompts, 64)
            on.begin(prompts, 64)
        if pair % 2:
            there, without = on.steps(2), off.steps(2)
        else:
            without, there = off.steps(2), on.steps(2)
        ratios.append(without / there)
    random = np.random.default_rng(1)
    drawn = np.median(random.choice(ratios, (2_000, len(ratios))), axis=1)
    name = "base rows, 64 adapters resident / feature off"
    result.add(name, statistics.median(ratios), "x", at_least=0.99)
    result.add(f"{name}, lower end", float(np.quantile(drawn, 0.025)), "x", at_least=0.97)


def alone(result: report.Report, house: House, rounds: int) -> None:
    """One row against what the machine's memory gives a matrix times a vector."""
    engine = house.ours("none", 0)
    read = house.backend("none").weight_bytes
    matrix, vector = torch.ones((read // 4 // 4096, 4096)), torch.ones(4096)
    ratios, speeds = [], []
    for number in range(rounds):
        if number % 8 == 0:
            engine.begin(prompts_of(1, 32), 66)
        began = time.perf_counter()
        for _ in range(STEPS):
            torch.mv(matrix, vector)
        plain = matrix.nbytes * STEPS / (time.perf_counter() - began)
        ratios.append(read * STEPS / engine.steps(STEPS) / plain)
        speeds.append(plain)
    result.add("memory to a matrix times a vector", statistics.median(speeds) / 1e9, "GB/s")
    result.add("batch 1 / that", statistics.median(ratios), "x", at_least=0.65)


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
