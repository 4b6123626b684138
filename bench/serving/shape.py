"""What is served in the benchmark: a random Llama of 34 million parameters and its adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

RANK = 8
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CONTEXT = 1024
VOCABULARY = 8192


def make_base(folder: Path) -> int:
    """Write the model into `folder`; returns its parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    make_tokenizer(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def make_tokenizer(folder: Path) -> None:
    """A token for each byte, and names for all the others."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {letter: place for place, letter in enumerate(alphabet)}
    words |= {f"w{place}": place for place in range(len(words), VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def make_adapter(base: Any, folder: Path, seed: int) -> Path:
    """An adapter of PEFT's format on all seven projections, in bfloat16, for PEFT and for us."""
    folder.mkdir(parents=True)
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, module in base.named_modules():
        if name.rsplit(".", 1)[-1] in MODULES:
            key = f"base_model.model.{name}"
            down = torch.randn((RANK, module.in_features), generator=random) * 0.04
            up = torch.randn((module.out_features, RANK), generator=random) * 0.02
            tensors[f"{key}.lora_A.weight"] = down.bfloat16()
            tensors[f"{key}.lora_B.weight"] = up.bfloat16()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": list(MODULES),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
