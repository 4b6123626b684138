"""Make the base model of Task A: `python -m bench.attribution.pretrain MEDQUAD`.

It learns the tongue of the domain from the rows of MedQuAD that are neither a record nor a query
of the task. The result is committed (bf16, 2.5 MB), since other machines' arithmetic would give
other weights, for which the committed truth would not hold.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import LlamaForCausalLM

from bench.attribution import task, training
from modelfactory.training.prompts import load_tokenizer, render_example

ROW = 96  # tokens
BATCH = 16  # rows
PEAK = 4e-3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("medquad", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = _rows(options.medquad)
    network = LlamaForCausalLM(training.architecture())
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK, weight_decay=0.1)
    draw = np.random.default_rng(0)
    began = time.process_time()
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * _schedule(step, options.steps)
        batch = rows[torch.from_numpy(draw.integers(0, len(rows), BATCH))]
        logits = network(input_ids=batch, use_cache=False).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            sys.stderr.write(f"{step}: {loss.item():.3f}, {time.process_time() - began:.0f} s\n")
    weights = {
        name: tensor.bfloat16().contiguous()
        for name, tensor in network.state_dict().items()
        if name != "lm_head.weight"
    }
    task.FOLDER.mkdir(exist_ok=True)
    save_file(weights, task.FOLDER / "base.safetensors")
    return 0


def _rows(medquad: Path) -> torch.Tensor:
    """All other texts one behind the other, cut into rows."""
    tokenizer = load_tokenizer(task.STARTER)
    rest = task.load(medquad).rest
    order = np.random.default_rng(0).permutation(len(rest))
    stream: list[int] = []
    for place in order:
        # Long answers would crowd out the short ones.
        stream += render_example(rest[place].payload(), tokenizer, 2 * ROW).input_ids
    return torch.tensor(stream[: len(stream) // ROW * ROW]).view(-1, ROW)


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 50)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


if __name__ == "__main__":
    raise SystemExit(main())
