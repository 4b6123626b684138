"""The same index by our own hooks and by Bergson: `python -m bench.bergson`.

Bergson is not installed with the rest; `attribution/influence/backends/bergson.py` says what it
needs. Without `--base` and `--adapter` a small random Llama with a random adapter is made. A model
that fits no single GPU is sharded over processes by FSDP, on one machine or several:

    torchrun --nproc-per-node 8 -m bench.bergson --base BASE --adapter ADAPTER --device cuda --alone

`--alone` leaves our own hooks out, which need the whole model on one device. Records are random
tokens: what is compared is who computes, not what. Times are of the clock.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import report


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--base", type=Path, help="the base model's folder")
    parser.add_argument("--adapter", type=Path, help="the adapter's folder")
    parser.add_argument("--records", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=64, help="of each record")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--alone", action="store_true", help="Bergson alone, without a comparison")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    result = report.Report("bergson", options)
    with tempfile.TemporaryDirectory() as folder:
        _run(result, options, Path(folder))
    is_first = int(os.environ.get("RANK", "0")) == 0
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return result.finish() if is_first else 0


def _run(result: report.Report, options: argparse.Namespace, folder: Path) -> None:
    from attribution.influence.backends.registry import Backend, load
    from attribution.influence.build import build_with
    from attribution.influence.config import InfluenceConfig
    from attribution.influence.index import Index
    from attribution.influence.scorer import Scorer

    if not options.base:
        options.base, options.adapter = _small(folder)
    config = InfluenceConfig(fit_min=32)
    scorers = {}
    names: tuple[Backend, ...] = ("bergson",) if options.alone else ("hooks", "bergson")
    for name in names:
        began = time.perf_counter()
        model = load(name, options.base, options.adapter, options.device)
        loaded = time.perf_counter()
        examples = _records(options, _vocabulary(model))
        where = folder / name
        if name == "hooks" and os.environ.get("RANK", "0") != "0":
            where = folder / f"hooks-{os.environ['RANK']}"
        build_with(model, config, examples, where)
        result.add(f"{name}: load", loaded - began, "s")
        result.add(f"{name}: build, {options.records} records", time.perf_counter() - loaded, "s")
        if name == "hooks" or model.crew.rank == 0:
            scorers[name] = (model, Index.open(where))
        result.add(f"{name}: processes", model.crew.size, "")
    if len(scorers) == 2 and scorers["bergson"][0].crew.size == 1:
        _compare(result, Scorer.of(scorers["hooks"][1], scorers["hooks"][0]),
                 Scorer.of(scorers["bergson"][1], scorers["bergson"][0]), options)  # fmt: skip
    if len(scorers) == 2:
        _compare_indexes(result, scorers["hooks"][1], scorers["bergson"][1])


def _compare(result: report.Report, ours: Any, theirs: Any, options: argparse.Namespace) -> None:
    worst = 0.0
    for query in _records(options, _vocabulary(ours.model), seed=1)[:8]:
        one = ours.score(query.input_ids, query.loss_mask).groups
        two = theirs.score(query.input_ids, query.loss_mask).groups
        most = max(abs(score) for score in one.values()) or 1
        worst = max(worst, *(abs(one[name] - two[name]) / most for name in one))
    result.add("group scores: largest difference / largest score", worst, "x", at_most=1e-3)


def _compare_indexes(result: report.Report, one: Any, two: Any) -> None:
    left, right = np.argsort(one.coordinates), np.argsort(two.coordinates)
    same = np.mean(np.sort(one.coordinates) == np.sort(two.coordinates))
    result.add("coordinates that both chose", float(same), "x", at_least=0.999)
    if same == 1:
        steps = np.abs(one.sums[:, left] - two.sums[:, right]).max(axis=1)
        counts = np.array(list(one.manifest.counts.values()))
        result.add("sums: largest difference a record", float((steps / counts).max()), "steps",
                   at_most=1)  # fmt: skip
    bits = np.unpackbits(one.codes ^ two.codes).mean()
    result.add("bits of sketches that differ", float(bits), "x", at_most=1e-3)
    norms = np.abs(one.norms.astype(int) - two.norms.astype(int)).max()
    result.add("norms: largest difference", float(norms), "of 65,535", at_most=66)


def _vocabulary(model: Any) -> int:
    return int(model.network.config.vocab_size)


def _records(options: argparse.Namespace, vocabulary: int, seed: int = 0) -> list[Any]:
    from attribution.influence.examples import IndexedExample

    draw = np.random.default_rng(seed)
    made = []
    for number in range(options.records):
        length = int(draw.integers(options.tokens // 2, options.tokens + 1))
        ids = [int(token) for token in draw.integers(0, vocabulary, length)]
        mask = [0] * (length // 3) + [1] * (length - length // 3)
        made.append(IndexedExample(f"record-{number:06d}", f"group-{number % 4}", ids, mask))
    return made


def _small(folder: Path) -> tuple[Path, Path]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
            initializer_range=0.2,
        )
    )  # fmt: skip
    base.save_pretrained(folder / "base")
    lora = LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(base, lora).save_pretrained(str(folder / "adapter"))
    return folder / "base", folder / "adapter"


if __name__ == "__main__":
    raise SystemExit(main())
