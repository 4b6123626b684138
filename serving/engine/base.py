"""The resident base model: a causal language model of transformers from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from serving.engine.detokenize import Vocabulary

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Base:
    """What the engine needs to know of the base, whatever computes it."""

    vocabulary: Vocabulary
    context: int
    vocabulary_size: int
    end_tokens: frozenset[int]


def load_base(
    folder: Path, *, device: str, dtype: str, max_context: int | None = None
) -> tuple[Any, Base]:
    """The model in `folder` and what is to be known of it: no code from the folder is run.

    `dtype` is float32, bfloat16 or float16. Raises OSError or ValueError where the folder holds
    no such model.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=DTYPES[dtype],
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    model.requires_grad_(False)
    model.eval().to(device)
    config = model.config.get_text_config()
    return model, Base(
        vocabulary=Vocabulary(Tokenizer.from_file(str(folder / "tokenizer.json"))),
        context=_context(config, max_context),
        vocabulary_size=int(config.vocab_size),
        end_tokens=_end_tokens(model, config),
    )


def _context(config: Any, max_context: int | None) -> int:
    """The shortest of the model's positions, its attention window and the caller's limit.

    Within the window a sliding attention equals a full one, which is what the cache computes.
    """
    limits = [config.max_position_embeddings, getattr(config, "sliding_window", None), max_context]
    return min(int(limit) for limit in limits if limit)


def _end_tokens(model: Any, config: Any) -> frozenset[int]:
    found: set[int] = set()
    for source in (getattr(model, "generation_config", None), config):
        end = getattr(source, "eos_token_id", None)
        found.update([end] if isinstance(end, int) else end or [])
    return frozenset(found)
