"""The engine on a GPU beside transformers, PEFT and, where it is installed, vLLM.

A random Llama of 1 to 8 billion parameters in bfloat16 (`--shape 1b`, `3b`, `8b`), rank 8 on all
seven projections, every row another adapter, the Triton kernel and CUDA graphs on, and both off by
turns. All of a machine's peers share one copy of the weights. Before anything is timed the engine's
ways are compared with its plainest, torch.bmm without graphs, and with transformers and PEFT; where
one says something else the script ends with 1 and times nothing. Then peers decode the same
contexts in turn; a figure is the median of the rounds' ratios. Bars are those of `bench.serving`,
which are aims here: none was tried on a device. The report names the device.

    python -m bench.serving.gpu --shape 1b --json gpu.json

`--shape tiny --device cpu` tries the script without a device, through the same lines but for the
capture (`tape`) and the kernel's compiler (Triton's interpreter): its figures say nothing, so only
those of correctness have bars.
"""

from __future__ import annotations

import copy
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import report
from bench.serving import peers
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
from bench.serving.shape import CONTEXT, VOCABULARY, make_adapter, make_tokenizer
from bench.serving.tape import ByAddress, Tape, has_triton
from serving.engine import graph_trial, lora_triton
from serving.engine.adapters import adapter_name, file_sha256, read_config
from serving.engine.base import load_base
from serving.engine.choosing import capture_of
from serving.engine.graphs import Capture
from serving.engine.lora_triton import TritonLora
from serving.engine.module import PAGE, ModuleBackend

# hidden, MLP, layers, heads, key-value heads
SHAPES = {
    "tiny": (64, 128, 2, 4, 2),
    "1b": (2048, 8192, 16, 32, 8),
    "3b": (3072, 8192, 28, 24, 8),
    "8b": (4096, 14336, 32, 32, 8),
}
BASE_PLAIN = "engine, base, no graphs"
ADAPTED_PLAIN = "engine, adapters, no graphs"
BMM = "engine, adapters, torch.bmm, no graphs"
# Of the largest logit: below it two numbers are the same, and two best tokens a tie.
SAME = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 5e-2}


class House:
    """One copy of the weights, and as many models and backends that read it as are asked for."""

    def __init__(self, folder: Path, options: Namespace) -> None:
        self.folder, self.options = folder, options
        self.device = torch.device(options.device)
        self.on_device = self.device.type == "cuda"
        self.dtype = options.dtype or ("bfloat16" if self.on_device else "float32")
        self.adapters: list[tuple[str, Path]] = []

    def make(self) -> None:
        """Write the base and its adapters, for this process and for vLLM's."""
        _make_base(self.folder / "base", self.options.shape, self.device, self.dtype)
        with torch.device("meta"):
            shapes = _model(self.options.shape)
        for seed in range(max(self.options.resident, *self.options.batches)):
            made = make_adapter(shapes, self.folder / f"adapter{seed}", seed)
            sha256 = file_sha256(made / "adapter_model.safetensors")
            name = adapter_name(sha256, read_config(made / "adapter_config.json"))
            self.adapters.append((name, made))

    def load(self) -> None:
        base = self.folder / "base"
        self.model, self.base = load_base(base, device=self.options.device, dtype=self.dtype)

    def copy(self) -> Any:
        """A model of its own (hooks on a layer would slow others down) of the same weights."""
        shared = (*self.model.parameters(), *self.model.buffers())
        return copy.deepcopy(self.model, {id(one): one for one in shared})

    def backend(self, slots: int, *, kernel: bool = True, graphs: bool = True) -> ModuleBackend:
        with torch.inference_mode():
            return ModuleBackend(
                self.copy(),
                slots=slots,
                context=CONTEXT,
                pages=slots * CONTEXT // PAGE,
                max_adapters=len(self.adapters),
                kernel=self._kernel() if kernel else None,
                capture=self._capture() if graphs else None,
            )

    def _kernel(self) -> TritonLora | None:
        if not self.on_device:
            return ByAddress(getattr(torch, self.dtype), triton=has_triton())
        return TritonLora(self.device, getattr(torch, self.dtype)) if has_triton() else None

    def _capture(self) -> Capture | None:
        return capture_of(self.device) if self.on_device else Tape()

    def ours(self, slots: int, adapters: int, **options: bool) -> Ours:
        backend = self.backend(slots, **options)
        chosen = self.adapters[:adapters]
        for name, source in chosen:
            backend.load(name, source)
        return Ours(backend, self.base, [name for name, _ in chosen])

    def tidy(self) -> None:
        """Give back what the last part had: its models and their hooks hold one another."""
        gc.collect()
        if self.on_device:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        if self.on_device:
            torch.cuda.synchronize()


def options_of(arguments: list[str] | None) -> Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=SAME, help="bfloat16 on a device, else float32")
    parser.add_argument("--batches", type=_numbers, default=[8, 32])
    parser.add_argument("--checked", type=int, default=32, help="steps compared before timing")
    parser.add_argument("--rounds", type=int, default=16, help="of 8 steps for each peer")
    parser.add_argument("--resident", type=int, default=64, help="adapters beside base rows")
    parser.add_argument("--pairs", type=int, default=200, help="of base rows beside adapters")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --shape tiny --device cpu tries the script")
    if options.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    result = report.Report("serving-gpu", options)
    result.machine |= _device(options.device)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as name:
        house = House(Path(name), options)
        house.make()
        if house.on_device and importlib.util.find_spec("vllm"):
            _vllm(result, house)  # in a process of its own, while the device is empty
        house.load()
        count = sum(one.numel() for one in house.model.parameters())
        result.add("parameters of the base", count / 1e9, "B", note=f"in {house.dtype}")
        bars = options.shape != "tiny"
        _trials(result, house)
        for batch in options.batches:
            house.tidy()
            if not _decode(result, house, batch, bars=bars):
                return result.finish()
        for part in (_resident, _swaps, _alone):
            house.tidy()
            part(result, house, bars=bars)
    return result.finish()


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def _device(device: str) -> dict[str, str]:
    if device != "cuda":
        return {"device": "none: figures say nothing"}
    about = torch.cuda.get_device_properties(0)
    memory = f"{about.total_memory / 2**30:.0f} GiB"
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    return {"device": f"{about.name}, {memory}", "software": versions}


def _model(shape: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, inner, layers, heads, kv_heads = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=CONTEXT,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def _make_base(folder: Path, shape: str, device: torch.device, dtype: str) -> None:
    torch.manual_seed(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with device:
            model = _model(shape)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    make_tokenizer(folder)
    del model
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _trials(result: report.Report, house: House) -> None:
    """What an engine tries when it starts."""
    if house.on_device and has_triton():
        off, ours, plain = lora_triton.trial(house.device, getattr(torch, house.dtype))
        bar = lora_triton.TOLERANCE
        result.add("kernel: off torch", off, "of the largest", at_most=bar)
        result.add("kernel: torch.bmm / it, a layer of 32 rows", plain / ours, "x")
    with torch.inference_mode():
        backend = house.backend(graph_trial.ROWS)
        off, replayed, plain = graph_trial.trial(backend)
    result.add("graphs: off the same step", off, "of the largest", at_most=SAME[house.dtype])
    result.add("graphs: plain step / replayed, 3 rows", plain / replayed, "x")
    result.add("graphs: their pool", backend.captured.bytes / 1e6, "MB")


def _decode(result: report.Report, house: House, batch: int, *, bars: bool) -> bool:
    """False where something is wrong; nothing was timed then."""
    plainest = house.ours(batch, batch, kernel=False, graphs=False)
    ways = {
        BASE: house.ours(batch, 0),
        BASE_PLAIN: house.ours(batch, 0, kernel=False, graphs=False),
        ADAPTED: house.ours(batch, batch),
        ADAPTED_PLAIN: house.ours(batch, batch, graphs=False),
        BMM: plainest,
    }
    hugging = Transformers(house.model)
    peft = mixed_peft(house.copy(), [source for _, source in house.adapters[:batch]])
    prompts = prompts_of(batch, 32)
    same = SAME[house.dtype]
    add = partial(result.add, unit="of the largest", at_most=same)
    add(f"batch {batch}: logits off PEFT's", peers.off(plainest, peft, prompts.to(house.device)))
    off = peers.off(ways[BASE_PLAIN], hugging, prompts.to(house.device))
    add(f"batch {batch}: logits off transformers'", off)
    for one, plain in ((BASE, BASE_PLAIN), (ADAPTED, BMM), (ADAPTED_PLAIN, BMM)):
        off, parted = _apart(ways[one], ways[plain], prompts, house.options.checked, same)
        add(f"batch {batch}: {one}, off the plainest", off)
        name = f"batch {batch}: {one}, rows with other tokens"
        result.add(name, parted, f"of {batch}", at_most=0, note="but for ties")
    if result.missed:
        return False
    each: dict[str, Peer] = {**ways, HUGGING: hugging, PEFT: peft}
    seconds = peers.take_turns(each, prompts.to(house.device), house.options.rounds, house.wait)
    peers.tell(result, f"batch {batch}", batch, seconds, bars=bars)
    for one, plain in ((BASE, BASE_PLAIN), (ADAPTED, ADAPTED_PLAIN), (ADAPTED_PLAIN, BMM)):
        result.add(f"batch {batch}: {one} / {plain}", peers.faster(seconds, one, plain), "x")
    used = ways[ADAPTED].backend.captured
    result.add(f"batch {batch}: graphs' pool, with adapters", used.bytes / 1e6, "MB")
    return True


def _apart(
    ours: Ours, plain: Ours, prompts: torch.Tensor, steps: int, tie: float
) -> tuple[float, int]:
    """(how far logits are off, rows whose tokens part where the plain ones are no tie)."""
    worst, parted = 0.0, 0
    mine, theirs = (peers.heard(one, prompts, steps) for one in (ours, plain))
    for row in range(len(prompts)):
        for one, other in zip(mine, theirs, strict=True):
            largest = float(other[row].abs().max())
            off = float((one[row] - other[row]).abs().max()) / largest
            worst = off if not off <= worst else worst  # what is no number is the worst
            token = int(one[row].argmax())
            if token != int(other[row].argmax()):
                parted += float(other[row].max() - other[row][token]) > tie * largest
                break  # contexts are others from here on
    return worst, parted


def _resident(result: report.Report, house: House, *, bars: bool) -> None:
    """Base rows through the path of adapters, many of them on the device, beside none at all."""
    batch, count = max(house.options.batches), house.options.resident
    off, on = house.ours(batch, 0), house.ours(batch, count)
    names = on.adapters
    for first in range(0, count, batch):
        on.adapters = [names[(first + row) % count] for row in range(batch)]
        on.begin(prompts_of(batch, 4), 4)
        on.steps(1)
    on.adapters = []
    on.backend.lora.always_adapt = True
    peers.resident(result, off, on, house.options.pairs, batch=batch, count=count, bars=bars)


def _swaps(result: report.Report, house: House, *, bars: bool) -> None:
    """From files that the file system has cached into memory, and from there onto the device."""
    backend = house.backend(1)
    read, moved = [], []
    for name, source in house.adapters[:16]:
        began = time.perf_counter()
        backend.load(name, source)
        found: Any = backend.adapter(name)
        megabytes = found.bytes / 1e6
        read.append((time.perf_counter() - began) * 1e3 / megabytes)
        if backend.replays_adapters:
            house.wait()
            began = time.perf_counter()
            with torch.inference_mode():
                backend.lora.hold([found])
            house.wait()
            moved.append((time.perf_counter() - began) * 1e3 / megabytes)
    result.add("bytes of an adapter", megabytes, "MB")
    result.add("swap-in: files read and checked", statistics.median(read[1:]), "ms/MB")
    if moved:
        told = statistics.median(moved[1:])
        result.add("swap-in: onto the device", told, "ms/MB", at_most=0.4 if bars else None)


def _alone(result: report.Report, house: House, *, bars: bool) -> None:
    model = house.model
    read = (
        sum(one.nbytes for one in model.parameters()) - model.get_input_embeddings().weight.nbytes
    )
    size = min(read, 4 << 30)
    dtype = getattr(torch, house.dtype)
    matrix = torch.ones((size // dtype.itemsize // 4096, 4096), dtype=dtype, device=house.device)
    bar = 0.65 if bars else None
    peers.alone(result, house.ours(1, 0), read, matrix, house.options.rounds, house.wait, bar=bar)


def _vllm(result: report.Report, house: House) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.serving.vllm_peer", str(house.folder), house.dtype,
         json.dumps(house.options.batches)],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        sys.stderr.write(done.stderr[-3_000:])
        result.add("vLLM ran", 0, "", note="its error stands above")
        return
    for name, rate in json.loads(done.stdout.splitlines()[-1]).items():
        result.add(name, rate, "tokens/s", note="with its prompts' 32 tokens a row")


if __name__ == "__main__":
    raise SystemExit(main())
