"""Adapters that a new one starts from: one to train further, or several to merge.

A LoRA adapter adds s·B·A to a weight, s = alpha / rank (or alpha / √rank). A merge of several by
weights w is the linear one: the sum of w·s·B·A. It is written without loss as one adapter whose A
stands the parents' A on each other and whose B lays w·s·B side by side, with a scale of 1; its rank
is the sum of theirs. Nothing is cut back to a lower rank, so nothing is approximated but rounding.
DoRA scales whole weights by learnt lengths, which do not add up: such adapters are not merged.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from modelfactory.training.job import JobError

WHOLE = 10_000
A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Parent:
    """An adapter with its weight in basis points. `tensors` are named as PEFT saves them."""

    tensors: dict[str, torch.Tensor]
    config: dict[str, Any]
    weight: int

    @property
    def rank(self) -> int:
        return int(self.config["r"])

    @property
    def scale(self) -> float:
        """What B·A is multiplied by."""
        alpha = float(self.config["lora_alpha"])
        return alpha / (math.sqrt(self.rank) if self.config.get("use_rslora") else self.rank)

    @property
    def modules(self) -> set[str]:
        return {name.removesuffix(A) for name in self.tensors if name.endswith(A)}


def read_parent(folder: Path, weight: int) -> Parent:
    """Raises JobError where the folder holds no adapter that can be read."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise JobError(f"The adapter to start from cannot be read: {error}") from error
    return Parent(tensors, config, weight)


def start_from(model: Any, parents: Sequence[Parent]) -> None:
    """Put the parents' weights into the new adapter of `model`. Raises JobError."""
    tensors = parents[0].tensors if len(parents) == 1 else merged(parents)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    if _shapes(tensors) != _shapes(expected):
        raise JobError(
            "The adapter to start from has other layers or another rank than this recipe asks for. "
            "Keep rank, alpha, targets, rank stabilisation and DoRA as its model has them."
        )
    set_peft_model_state_dict(model, tensors)


def merged(parents: Sequence[Parent]) -> dict[str, torch.Tensor]:
    """One adapter of scale 1 that adds what the parents add, by weight. Raises JobError."""
    check_mergeable(parents)
    found: dict[str, torch.Tensor] = {}
    for module in sorted(parents[0].modules):
        # A: (rank x inputs), B: (outputs x rank); the ranks stand side by side.
        found[module + A] = torch.cat([p.tensors[module + A].float() for p in parents], dim=0)
        found[module + B] = torch.cat(
            [
                (p.tensors[module + B].double() * (p.weight / WHOLE * p.scale)).float()
                for p in parents
            ],
            dim=1,
        )
    return found


def check_mergeable(parents: Sequence[Parent]) -> None:
    if len(parents) < 2 or sum(parent.weight for parent in parents) != WHOLE:
        raise JobError(f"A merge takes two adapters or more, whose weights make {WHOLE}.")
    if any(parent.config.get("use_dora") for parent in parents):
        raise JobError("A DoRA adapter cannot be merged: its lengths do not add up.")
    if any(parent.modules != parents[0].modules for parent in parents):
        raise JobError("The adapters are on different layers. Merge those with the same targets.")


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
