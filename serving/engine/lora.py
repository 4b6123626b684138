"""LoRA for each row of a batch: rows may carry different adapters, the same one, or none.

Hooks on the base's linear layers add each row's own low-rank product. A layer that no adapter
targets has no hook, and a step without adapters returns from the hook at once. Adapters of one
step are stacked once and kept until the rows change, so a decode step costs two batched products
per layer; ranks are padded to the largest of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from serving.engine.adapters import Adapter, LoraWeights


@dataclass(frozen=True, slots=True)
class _Stack:
    """One layer's adapters of one step, for the `rows` that have one.

    down (rows, inputs, rank), up (rows, rank, outputs), rescale (rows, 1, outputs) or None.
    """

    rows: torch.Tensor | None  # None: all rows, in order
    down: torch.Tensor
    up: torch.Tensor
    rescale: torch.Tensor | None


class RowAdapters:
    """Holds which adapter each row of the current step has, and applies them."""

    def __init__(self, linears: Mapping[str, nn.Linear]) -> None:
        self._linears = linears
        self._hooked: set[str] = set()
        self._rows: tuple[Adapter | None, ...] = ()
        self._active = False
        self._stacks: dict[str, _Stack | None] = {}

    def select(self, rows: Sequence[Adapter | None]) -> None:
        """Set the adapters of the rows of the next forward; same rows as before cost nothing."""
        chosen = tuple(rows)
        if len(chosen) == len(self._rows) and all(
            new is old for new, old in zip(chosen, self._rows, strict=True)
        ):
            return
        self._rows = chosen
        self._active = any(row is not None for row in chosen)
        self._stacks = {}
        for row in chosen:
            for name in row.layers if row is not None else ():
                self._hook(name)

    def _hook(self, name: str) -> None:
        if name in self._hooked:
            return

        def add(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            return self._apply(name, inputs[0], output) if self._active else output

        self._linears[name].register_forward_hook(add)
        self._hooked.add(name)

    def _apply(self, name: str, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """inputs (rows, tokens, inputs), output (rows, tokens, outputs) -> the same, adapted."""
        if name not in self._stacks:
            self._stacks[name] = self._stack(name)
        stack = self._stacks[name]
        if stack is None:
            return output
        chosen = inputs if stack.rows is None else inputs[stack.rows]
        delta = torch.matmul(torch.matmul(chosen, stack.down), stack.up)
        if stack.rescale is not None:
            plain = output if stack.rows is None else output[stack.rows]
            bias = self._linears[name].bias
            plain = plain if bias is None else plain - bias
            delta = (stack.rescale - 1) * plain + stack.rescale * delta
        if stack.rows is None:
            return output + delta
        return output.index_add(0, stack.rows, delta)

    def _stack(self, name: str) -> _Stack | None:
        layers = [None if row is None else row.layers.get(name) for row in self._rows]
        present = [(place, layer) for place, layer in enumerate(layers) if layer is not None]
        if not present:
            return None
        device = present[0][1].down.device
        rows = None
        if len(present) < len(layers):
            rows = torch.tensor([place for place, _ in present], device=device)
        weights = [layer for _, layer in present]
        if all(layer is weights[0] for layer in weights):
            # One adapter for all: broadcast instead of copying it for each row.
            weights = weights[:1]
        return _stacked(rows, weights)


def _stacked(rows: torch.Tensor | None, weights: Sequence[LoraWeights]) -> _Stack:
    rank = max(layer.down.shape[0] for layer in weights)
    down = torch.stack([_padded(layer.down.T, rank, dim=1) for layer in weights])
    up = torch.stack([_padded(layer.up.T, rank, dim=0) for layer in weights])
    rescale = None
    if any(layer.rescale is not None for layer in weights):
        ones = torch.ones(up.shape[2], device=up.device, dtype=up.dtype)
        scales = [ones if layer.rescale is None else layer.rescale for layer in weights]
        rescale = torch.stack(scales)[:, None, :]
    return _Stack(rows, down, up, rescale)


def _padded(matrix: torch.Tensor, rank: int, *, dim: int) -> torch.Tensor:
    missing = rank - matrix.shape[dim]
    return functional.pad(matrix, (0, missing) if dim == 1 else (0, 0, 0, missing))
