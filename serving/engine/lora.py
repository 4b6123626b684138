"""LoRA for each row of a batch: rows may carry different adapters, the same one, or none.

Hooks on the base's linear layers add each row's own low-rank product. A layer that no adapter
targets has no hook, and a step without adapters returns from the hook at once. Adapters of one
step are stacked once and kept until the rows change, in one bucket for each rank, so that a row
pays for its own rank alone: two batched products per layer and bucket. On a CUDA device a kernel
that reads each row's matrices where they lie takes decoding rows, where it was found faster; a
captured step (`graphs`) reads their addresses from tables that stay.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from serving.engine.adapters import Adapter, LoraWeights
from serving.engine.lora_triton import Held, Table, TritonLora


@dataclass(frozen=True, slots=True)
class _Bucket:
    """One layer's adapters of one rank.

    down (rows, inputs, rank), up (rows, rank, outputs), rescale (rows, 1, outputs) or None.
    """

    rows: torch.Tensor | None  # None: all rows, in order
    down: torch.Tensor
    up: torch.Tensor
    rescale: torch.Tensor | None


class RowAdapters:
    """Holds which adapter each row of the current step has, and applies them."""

    def __init__(self, linears: Mapping[str, nn.Linear], kernel: TritonLora | None = None) -> None:
        self._linears, self._kernel = linears, kernel
        self._tables: dict[str, Table | None] = {}
        self._hooked: dict[str, RemovableHandle] = {}
        self._rows: tuple[Adapter | None, ...] = ()
        self._active = False
        self._buckets: dict[str, list[_Bucket]] = {}
        self.always_adapt = False  # for measurements: base rows too ask for their adapter
        self._held: Held | None = None
        self._held_rows: tuple[Adapter | None, ...] = ()
        self._held_rank: int | None = None

    @property
    def layers(self) -> int:
        """How many linear layers adapters were on so far."""
        return len(self._hooked)

    @property
    def holds(self) -> bool:
        """Whether `hold` can take adapters."""
        return self._held is not None

    def hold_up_to(self, rows: int) -> None:
        """Make room for `hold`."""
        if self._kernel is not None:
            self._held = Held(self._kernel, [*self._linears], rows)

    def hold(self, rows: Sequence[Adapter | None]) -> int | None:
        """Write the rows' adapters to the tables that stay; returns the highest rank, 0 of none.

        None where they cannot be read from there. Same rows as before cost nothing.
        """
        if not self._adapts(rows):
            return 0
        if self._held is None:
            return None
        if not _same(rows, self._held_rows):
            self._held_rows = tuple(rows)
            self._hook_all(rows)
            self._held_rank = self._held.fill(rows)
        return 1 if self._held_rank == 0 else self._held_rank

    def use_held(self, rows: int, rank: int) -> None:
        """Let forwards read the first `rows` of what `hold` writes, of `rank` at most."""
        self._rows, self._active = (), rank > 0
        self._buckets, self._tables = {}, {}
        if self._held is not None and rank:
            self._tables = {name: self._held.table(name, rows, rank) for name in self._hooked}

    def select(self, rows: Sequence[Adapter | None]) -> None:
        """Set the adapters of the rows of the next forward; same rows as before cost nothing."""
        if _same(rows, self._rows):
            return
        self._rows = tuple(rows)
        self._active = self._adapts(rows)
        self._buckets, self._tables = {}, {}
        self._hook_all(rows)

    def forget(self) -> None:
        """As if there had been no adapter yet: none is kept, and no layer asks for one."""
        for handle in self._hooked.values():
            handle.remove()
        self._hooked.clear()
        self._rows, self._active, self._held_rows = (), False, ()
        self._buckets, self._tables = {}, {}

    def _adapts(self, rows: Sequence[Adapter | None]) -> bool:
        return self.always_adapt or any(row is not None for row in rows)

    def _hook_all(self, rows: Sequence[Adapter | None]) -> None:
        for row in rows:
            for name in row.layers if row is not None else ():
                self._hook(name)

    def _hook(self, name: str) -> None:
        if name in self._hooked:
            return

        def add(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            return self._apply(name, inputs[0], output) if self._active else output

        self._hooked[name] = self._linears[name].register_forward_hook(add)

    def _apply(self, name: str, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """inputs (rows, tokens, inputs), output (rows, tokens, outputs) -> the same, adapted."""
        if self._kernel is not None and inputs.shape[1] == 1:
            table = self._table(name, self._kernel)
            if table is not None:
                return self._kernel.add(inputs[:, 0], output[:, 0], table)[:, None]
        if name not in self._buckets:
            self._buckets[name] = self._stacked(name)
        plain = output
        for bucket in self._buckets[name]:
            chosen = inputs if bucket.rows is None else inputs[bucket.rows]
            delta = torch.matmul(torch.matmul(chosen, bucket.down), bucket.up)
            if bucket.rescale is not None:
                before = plain if bucket.rows is None else plain[bucket.rows]
                bias = self._linears[name].bias
                before = before if bias is None else before - bias
                delta = (bucket.rescale - 1) * before + bucket.rescale * delta
            if bucket.rows is None:
                return output + delta
            output = output.index_add(0, bucket.rows, delta)
        return output

    def _table(self, name: str, kernel: TritonLora) -> Table | None:
        """None where a row has magnitudes (DoRA), which the kernel does not know."""
        if name not in self._tables:
            rows = [None if row is None else row.layers.get(name) for row in self._rows]
            plain = all(one is None or one.rescale is None for one in rows)
            self._tables[name] = kernel.table(rows) if plain else None
        return self._tables[name]

    def _stacked(self, name: str) -> list[_Bucket]:
        by_rank: dict[tuple[int, bool], list[tuple[int, LoraWeights]]] = {}
        for place, row in enumerate(self._rows):
            weights = None if row is None else row.layers.get(name)
            if weights is not None:
                kind = weights.down.shape[0], weights.rescale is not None
                by_rank.setdefault(kind, []).append((place, weights))
        weight = self._linears[name].weight
        return [self._bucket(rows, weight) for rows in by_rank.values()]

    def _bucket(self, present: list[tuple[int, LoraWeights]], weight: torch.Tensor) -> _Bucket:
        rows = None
        if len(present) < len(self._rows):
            rows = torch.tensor([place for place, _ in present], device=weight.device)
        layers = [layer for _, layer in present]
        if all(layer is layers[0] for layer in layers):
            # One adapter for all: broadcast instead of copying it for each row.
            layers = layers[:1]

        def stack(parts: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack(parts).to(device=weight.device, dtype=weight.dtype)

        rescale = None
        if layers[0].rescale is not None:
            rescale = stack([one.rescale for one in layers if one.rescale is not None])[:, None, :]
        return _Bucket(
            rows,
            stack([one.down.T for one in layers]),
            stack([one.up.T.float() * one.scaling for one in layers]),
            rescale,
        )


def _same(rows: Sequence[Adapter | None], others: Sequence[Adapter | None]) -> bool:
    return len(rows) == len(others) and all(map(operator.is_, rows, others))
