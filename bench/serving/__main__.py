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

import tempfile
from pathlib import Path

import torch

from bench import report
from bench.serving import arrivals, http, memory, peers
from bench.serving.peers import (
    ADAPTED,
    BASE,
    HUGGING,
    PEFT,
    Ours,
    Peer,
    Transformers,
    mixed_peft,
    prompts_of,
)
from bench.serving.shape import make_adapter, make_base
from config.embedded.paths import REPOSITORY
from serving.engine.adapters import adapter_name, file_sha256, read_config
from serving.engine.base import load_base
from serving.engine.choosing import Needs, choose, native_of
from serving.engine.native.backend import NativeBackend
from serving.engine.quality import compare, evaluation_of

PARTS = ("steps", "int8", "long", "resident", "one", "memory", "arrivals", "http")
STARTER = REPOSITORY / "modelfactory" / "starter"
BYTES = "engine, adapters, int8"


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
    adapted = house.ours("packed", batch)
    each_peer: dict[str, Peer] = {
        BASE: house.ours("packed", 0),
        ADAPTED: adapted,
        HUGGING: Transformers(house.model),
    }
    if bars:
        separate, _ = load_base(house.folder / "base", device="cpu", dtype="float32")
        peft = mixed_peft(separate, [folder for _, folder in rows])
        off = peers.off(adapted, peft, prompts_of(batch, 40))
        each_peer[PEFT] = peft
        result.add(f"batch {batch}: logits off PEFT's", off, "of the largest", at_most=1e-5)
    seconds = peers.take_turns(each_peer, prompts_of(batch, context), rounds)
    peers.tell(result, f"batch {batch}, context {context}", batch, seconds, bars=bars)


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
    each_peer: dict[str, Peer] = {
        BYTES: house.ours("packed", 32, int8=True),
        ADAPTED: house.ours("packed", 32),
        HUGGING: Transformers(house.model),
        PEFT: mixed_peft(separate, [folder for _, folder in rows]),
    }
    seconds = peers.take_turns(each_peer, prompts_of(32, 32), rounds)
    for peer, bar in ((ADAPTED, None), (HUGGING, 1.7), (PEFT, 9.0)):
        ratio = peers.faster(seconds, BYTES, peer)
        result.add(f"batch 32, context 32: {BYTES} / {peer}", ratio, "x", at_least=bar)


def resident(result: report.Report, house: House, pairs: int) -> None:
    """Base rows through the path of adapters, 64 of them resident, beside no adapters at all."""
    off, on = house.ours("none", 0), house.ours("packed", 64)
    on.adapters = []
    on.backend.always_adapt = True
    peers.resident(result, off, on, pairs)


def alone(result: report.Report, house: House, rounds: int) -> None:
    """One row against what the machine's memory gives a matrix times a vector."""
    engine = house.ours("none", 0)
    read = house.backend("none").weight_bytes
    peers.alone(result, engine, read, torch.ones((read // 4 // 4096, 4096)), rounds)


if __name__ == "__main__":
    raise SystemExit(main())
