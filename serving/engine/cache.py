"""Keys and values of all active rows, one lane a row, handed to transformers as its cache.

Rows that decode lie in lanes 0..n-1 and the row that is being prefilled in lane n, so that a step
reads a view of the lanes and copies nothing. Memory grows with the longest row, in blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

BLOCK = 128  # tokens by which lanes grow


class LaneCache(Cache):
    """KV cache of shape (lanes, key-value heads, capacity, head size) per layer."""

    def __init__(self, lanes: int, context: int) -> None:
        super().__init__(layers=[])
        self.lanes = lanes
        self.context = context
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._lanes_now = slice(0, 0)
        self._positions = torch.empty(0, dtype=torch.long)
        self._length = 0

    def select(self, lanes: slice, positions: torch.Tensor, length: int) -> None:
        """Say which lanes the next forward writes.

        `positions` is (1, new tokens) for a prefill of one lane, (lanes, 1) for a decode step;
        `length` is how many tokens of a lane are read.
        """
        self._lanes_now, self._positions, self._length = lanes, positions, length

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (rows, heads, new tokens, head size), return (rows, heads, length, head size)."""
        self._make_room(layer_idx, key_states, value_states)
        stored = []
        for store, new in (
            (self._keys[layer_idx], key_states),
            (self._values[layer_idx], value_states),
        ):
            view = store[self._lanes_now]
            index = self._positions[:, None, :, None].expand(
                new.shape[0], new.shape[1], -1, new.shape[3]
            )
            view.scatter_(2, index, new)
            stored.append(view[:, :, : self._length])
        return stored[0], stored[1]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy `length` tokens of one lane into another."""
        for store in (*self._keys, *self._values):
            store[target, :, :length] = store[source, :, :length]

    def clear(self, lane: int) -> None:
        """Forget a lane; masking alone would not, since zero times NaN is NaN."""
        for store in (*self._keys, *self._values):
            store[lane].zero_()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def bytes(self) -> int:
        return sum(store.nbytes for store in (*self._keys, *self._values))

    def _make_room(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        while len(self._keys) <= layer:
            self._keys.append(keys.new_zeros((self.lanes, keys.shape[1], 0, keys.shape[3])))
            self._values.append(values.new_zeros((self.lanes, values.shape[1], 0, values.shape[3])))
        if self._keys[layer].shape[2] < self._length:
            blocks = -(-self._length // BLOCK)
            self._keys[layer] = _grown(self._keys[layer], blocks * BLOCK)
            self._values[layer] = _grown(self._values[layer], blocks * BLOCK)


def _grown(store: torch.Tensor, capacity: int) -> torch.Tensor:
    lanes, heads, held, size = store.shape
    larger = store.new_zeros((lanes, heads, capacity, size))
    larger[:, :, :held] = store
    return larger
