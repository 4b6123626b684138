"""Keys and values in pages, handed to transformers as its cache.

A row's pages are gathered for each step, which costs a copy of what is read; the native step reads
them where they lie.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache


class PagedCache(Cache):
    """Per layer (pages, tokens of a page, key-value heads, head size) for keys and for values.

    Made for one device; a layer's shape is learned at its first step.
    """

    def __init__(self, pages: int, page_size: int) -> None:
        super().__init__(layers=[])
        self.pages, self.page_size = pages, page_size
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._table = torch.empty(0)
        self._places = torch.empty(0)
        self._length = 0
        self._beyond = torch.empty(0)

    def select(self, table: torch.Tensor, positions: torch.Tensor, length: int) -> None:
        """`table` (rows, columns) holds each row's pages, `positions` (rows, new tokens).

        `length` is how many tokens of a row are read at most, above all positions. Nothing here
        waits for the device, so that a step may be captured.
        """
        self._length = length
        columns = -(-self._length // self.page_size)
        self._table = table[:, :columns]
        page = self._table.gather(1, positions // self.page_size)
        self._places = (page * self.page_size + positions % self.page_size).flatten()
        # What lies behind a row's last token is not its own, and zero times NaN is NaN.
        reach = torch.arange(columns * self.page_size, device=positions.device)
        self._beyond = (reach > positions[:, -1:])[:, None, :, None]

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (rows, heads, new tokens, head size), return (rows, heads, length, head size)."""
        if len(self._keys) <= layer_idx:
            self._keys.append(self._room(key_states))
            self._values.append(self._room(value_states))
        found = [
            self._stored(store[layer_idx], new)
            for store, new in ((self._keys, key_states), (self._values, value_states))
        ]
        return found[0], found[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        shape = (self.pages, self.page_size, states.shape[1], states.shape[3])
        return states.new_empty(shape)

    def _stored(self, store: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        rows, heads, _, size = new.shape
        store.view(-1, heads, size)[self._places] = new.transpose(1, 2).reshape(-1, heads, size)
        gathered = store[self._table].view(rows, -1, heads, size).transpose(1, 2)
        return gathered.masked_fill(self._beyond, 0.0)[:, :, : self._length]
