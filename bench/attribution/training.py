"""The adapter of Task A: LoRA of rank 8 on all linear layers, AdamW, three epochs.

Plain PEFT and PyTorch, as a user would write it; retrainings differ in the records that they see
and in the seed of initialisation and order, in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

RANK = 8
EPOCHS = 3
BATCH = 16
LEARNING_RATE = 2e-3
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


def adapted(seed: int) -> Any:
    """The base model with a fresh adapter."""
    network = base_model()
    torch.manual_seed(seed)
    return get_peft_model(
        network,
        LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"),
    )


def train(
    records: Sequence[IndexedExample],
    seed: int,
    after_epoch: Callable[[int, Any], None] | None = None,
) -> Any:
    """A network fine-tuned on ``records``, in evaluation mode."""
    network = adapted(seed)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    order = np.random.default_rng(seed)
    steps = EPOCHS * -(-len(records) // BATCH)
    step = 0
    for epoch in range(EPOCHS):
        network.train()
        places = order.permutation(len(records))
        for begin in range(0, len(records), BATCH):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - step / steps)
            batch = make_batch([records[p] for p in places[begin : begin + BATCH]], CPU)
            total, count = _loss(network, batch)
            optimizer.zero_grad(set_to_none=True)
            (total.sum() / count.sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
        if after_epoch:
            after_epoch(epoch, network)
    return network.eval()


def losses(network: Any, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
    """Summed negative log-likelihood of each query's target tokens, (queries,)."""
    found: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for begin in range(0, len(queries), BATCH):
            total, _ = _loss(network, make_batch(queries[begin : begin + BATCH], CPU))
            found.append(total.double().numpy())
    return np.concatenate(found)


def _loss(network: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Per example: summed loss and number of target tokens."""
    hidden = network(input_ids=batch.ids, attention_mask=batch.present, use_cache=False)
    mask = batch.targets[:, 1:]
    flat = functional.cross_entropy(
        hidden.logits[:, :-1].transpose(1, 2), batch.ids[:, 1:], reduction="none"
    )
    return (flat * mask).sum(dim=1), mask.sum(dim=1)
