"""The adapters of the tasks: LoRA on all linear layers, AdamW, two epochs.

Plain PEFT and PyTorch with bf16 autocast, as a user would write it; retrainings differ in the
records that they see and in the seed of initialisation and order, in nothing else. Losses are
taken in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from attribution.influence.examples import IndexedExample
from attribution.influence.gradients import Batch, make_batch
from bench.attribution import task

EPOCHS = 2
BATCH = 16  # queries whose losses are taken at once
CPU = torch.device("cpu")


def architecture() -> LlamaConfig:
    """About 1.3 million parameters with the starter's vocabulary of 4,096."""
    return LlamaConfig(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def base_model(path: Path = task.FOLDER / "base.safetensors") -> LlamaForCausalLM:
    """The base model that `pretrain` made, in fp32."""
    config = architecture()
    config._attn_implementation = "eager"
    network = LlamaForCausalLM(config)
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    network.load_state_dict(weights)
    return network


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a task's adapter is made; ``base`` gives its base model in fp32."""

    base: Callable[[], Any]
    rank: int
    batch: int
    learning_rate: float
    mixed: bool  # bf16 autocast, as far as the caller does not ask for fp32


TASK_A = Recipe(base_model, rank=8, batch=16, learning_rate=3e-3, mixed=True)


def adapted(seed: int, recipe: Recipe = TASK_A) -> Any:
    """The base model with a fresh adapter."""
    network = recipe.base()
    torch.manual_seed(seed)
    rank = recipe.rank
    return get_peft_model(
        network,
        LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear"),
    )


def train(
    records: Sequence[IndexedExample],
    seed: int,
    after_epoch: Callable[[int, Any], None] | None = None,
    *,
    after_step: Callable[[int, Any], None] | None = None,
    mixed: bool = True,
    epochs: int = EPOCHS,
    recipe: Recipe = TASK_A,
) -> Any:
    """A network fine-tuned on ``records``, in evaluation mode; without ``mixed`` all in fp32."""
    network = adapted(seed, recipe)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0)
    order = np.random.default_rng(seed)
    steps = epochs * -(-len(records) // recipe.batch)
    step = 0
    for epoch in range(epochs):
        network.train()
        places = order.permutation(len(records))
        for begin in range(0, len(records), recipe.batch):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * (1 - step / steps)
            batch = make_batch([records[p] for p in places[begin : begin + recipe.batch]], CPU)
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed and recipe.mixed):
                loss = _loss(network, batch).sum() / batch.targets[:, 1:].sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            if after_step:
                after_step(step, network)
        if after_epoch:
            after_epoch(epoch, network)
    return network.eval()


def losses(network: Any, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
    """Summed negative log-likelihood of each query's target tokens, (queries,)."""
    found: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for begin in range(0, len(queries), BATCH):
            batch = make_batch(queries[begin : begin + BATCH], CPU)
            each = torch.zeros(len(batch.ids), dtype=torch.float64)
            rows = (batch.targets[:, 1:] > 0).nonzero()[:, 0]
            found.append(each.index_add(0, rows, _loss(network, batch).double()).numpy())
    return np.concatenate(found)


def _loss(network: Any, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood of every target token, example by example, (targets,)."""
    causal = network.get_base_model()
    # Logits of the prompt's tokens are not needed, and are a quarter of the work.
    states = causal.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    mask = batch.targets[:, 1:] > 0
    logits = causal.lm_head(states[:, :-1][mask]).float()
    return functional.cross_entropy(logits, batch.ids[:, 1:][mask], reduction="none")
