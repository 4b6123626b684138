"""The engine on a GPU beside transformers, PEFT and, where it is installed, vLLM.

A random Llama of 1 to 8 billion parameters in bfloat16 (`--shape 1b`, `3b`, `8b`), rank 8 on all
seven projections, every row another adapter. Peers take turns on the same contexts; a figure is the
median of the rounds' ratios. The report names the device. `--shape tiny --device cpu` tries the
script itself; its figures then say nothing.

    python -m bench.serving.gpu --shape 1b --json gpu.json
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench import report
from bench.serving.peers import Ours, Peer, Transformers, mixed_peft, prompts_of
from bench.serving.shape import CONTEXT, VOCABULARY, make_adapter, make_tokenizer
from serving.engine.adapters import adapter_name, file_sha256, read_config
from serving.engine.base import load_base
from serving.engine.choosing import Needs, choose

# hidden, MLP, layers, heads, key-value heads
SHAPES = {
    "tiny": (64, 128, 2, 4, 2),
    "1b": (2048, 8192, 16, 32, 8),
    "3b": (3072, 8192, 28, 24, 8),
    "8b": (4096, 14336, 32, 32, 8),
}
STEPS = 8
BASE, ADAPTED, HUGGING, PEFT = (
    "engine, base",
    "engine, adapters",
    "transformers, base",
    "PEFT mixed",
)


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", default="8,32")
    parser.add_argument("--rounds", type=int, default=16)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --shape tiny --device cpu tries the script")
    result = report.Report("serving-gpu", options)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "none"
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as name:
        folder = Path(name)
        count = _make_base(folder / "base", options.shape)
        result.add("parameters of the base", count / 1e9, "B", note=f"device: {device}")
        for batch in map(int, options.batches.split(",")):
            _decode(result, folder, options, batch)
            if options.device == "cuda" and importlib.util.find_spec("vllm"):
                rate = _vllm(folder, batch)
                result.add(f"batch {batch}: vLLM, adapters", rate, "tokens/s")
    return result.finish()


def _make_base(folder: Path, shape: str) -> int:
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
        dtype=torch.bfloat16,
    )
    torch.manual_seed(1)
    model: Any = LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(folder)
    make_tokenizer(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def _decode(result: report.Report, folder: Path, options: Any, batch: int) -> None:
    model, base = load_base(folder / "base", device=options.device, dtype="bfloat16")
    sources = [folder / f"adapter{seed}" for seed in range(batch)]
    for seed, source in enumerate(sources):
        if not source.exists():
            make_adapter(model, source, seed)

    def ours(adapters: list[Path]) -> Ours:
        # A model of its own: hooks on a layer would slow transformers down.
        mine, _ = load_base(folder / "base", device=options.device, dtype="bfloat16")
        needs = Needs(
            slots=batch,
            context=base.context,
            threads=1,
            cache_bytes=8 << 30,
            store=folder / "store",
            warm_bytes=8 << 30,
            max_adapters=64,
            base_sha256=None,
        )
        backend = choose(mine, needs, "transformers")
        names = []
        for source in adapters:
            sha256 = file_sha256(source / "adapter_model.safetensors")
            names.append(adapter_name(sha256, read_config(source / "adapter_config.json")))
            backend.load(names[-1], source)
        return Ours(backend, base, names)

    separate, _ = load_base(folder / "base", device=options.device, dtype="bfloat16")
    peers: dict[str, Peer] = {
        BASE: ours([]),
        ADAPTED: ours(sources),
        HUGGING: Transformers(model),
        PEFT: mixed_peft(separate, sources),
    }
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    prompts = prompts_of(batch, 32).to(options.device)
    for number in range(options.rounds):
        if number % 8 == 0:
            for one in peers.values():
                one.begin(prompts, 8 * STEPS + 2)
        for name in peers if number % 2 == 0 else reversed(list(peers)):
            _wait(options.device)
            began = time.perf_counter()
            peers[name].steps(STEPS)
            _wait(options.device)
            seconds[name].append(time.perf_counter() - began)
        sys.stderr.write(f"  batch {batch}: round {number + 1}/{options.rounds}\n")
    for name, each in seconds.items():
        rate = batch * STEPS / statistics.median(each)
        result.add(f"batch {batch}: {name}", rate, "tokens/s")
    for mine, peer in ((BASE, HUGGING), (ADAPTED, BASE), (ADAPTED, HUGGING), (ADAPTED, PEFT)):
        pairs = zip(seconds[mine], seconds[peer], strict=True)
        ratio = statistics.median(theirs / took for took, theirs in pairs)
        result.add(f"batch {batch}: {mine} / {peer}", ratio, "x")


def _vllm(folder: Path, batch: int) -> float:
    """Tokens a second of a whole batch with its adapters, after one that loads them."""
    vllm: Any = importlib.import_module("vllm")
    lora: Any = importlib.import_module("vllm.lora.request")
    engine = vllm.LLM(
        model=str(folder / "base"),
        enable_lora=True,
        max_loras=batch,
        max_lora_rank=8,
        max_model_len=CONTEXT,
        gpu_memory_utilization=0.3,
    )
    prompts = [{"prompt_token_ids": ids} for ids in prompts_of(batch, 32).tolist()]
    rows = [lora.LoRARequest(str(n), n + 1, str(folder / f"adapter{n}")) for n in range(batch)]
    wish = vllm.SamplingParams(temperature=0, max_tokens=64, ignore_eos=True)
    engine.generate(prompts, wish, lora_request=rows)
    began = time.perf_counter()
    engine.generate(prompts, wish, lora_request=rows)
    return batch * 64 / (time.perf_counter() - began)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    raise SystemExit(main())
