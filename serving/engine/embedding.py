"""Vectors of texts from a base: its last hidden states, averaged over the tokens and scaled to 1.

A causal model's last layer is no trained embedding: texts that begin alike lie close, and a model
made for retrieval does better. It needs nothing that is not there already, and its vectors compare
with one another.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel

Floats = npt.NDArray[np.float32]
# Tokens of one forward: padded texts of about the same length go together.
TOGETHER = 2_048


class Embedder:
    """Thread-safe: one text after another, since a forward uses all its threads."""

    def __init__(self, folder: Path, *, device: str = "cpu", threads: int = 1) -> None:
        """Raises OSError or ValueError where the folder holds no model."""
        self._model: Any = AutoModel.from_pretrained(
            folder,
            dtype=torch.float32 if device == "cpu" else torch.bfloat16,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        self._model.requires_grad_(False).eval().to(device)
        self._device, self._threads = device, threads
        self._lock = threading.Lock()
        self.dimensions = int(self._model.config.get_text_config().hidden_size)

    def vectors(self, texts: Sequence[Sequence[int]]) -> Floats:
        """(texts, dimensions) of texts as token ids, none empty; each row has the length 1."""
        found = np.zeros((len(texts), self.dimensions), np.float32)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        with self._lock, torch.inference_mode():
            before = torch.get_num_threads()
            torch.set_num_threads(self._threads)
            try:
                for places in _groups(order, texts):
                    found[places] = self._forward([texts[place] for place in places])
            finally:
                torch.set_num_threads(before)
        return found

    def _forward(self, texts: Sequence[Sequence[int]]) -> Floats:
        longest = max(len(text) for text in texts)
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        ids, mask = ids.to(self._device), mask.to(self._device)
        states = self._model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        weights = mask[..., None].float()
        mean = (states.float() * weights).sum(1) / weights.sum(1)  # (texts, dimensions)
        scaled: Floats = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
        return scaled


def _groups(order: Sequence[int], texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places in their order, so many together that a padded group has TOGETHER tokens at most."""
    groups: list[list[int]] = []
    for place in order:
        if groups and (len(groups[-1]) + 1) * len(texts[place]) <= TOGETHER:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
