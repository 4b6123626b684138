"""A capture for machines without a device: it keeps of a step what a CUDA graph keeps.

Work is run once and its operations noted with the very tensors and numbers that they had. A replay
does them again in the same memory, without a line of the work's Python, so whatever was baked in by
mistake stays as it was. What would wait for a device (`.item()`) is refused as there. The kernel of
adapters reads matrices by their addresses, in Triton's interpreter or, without Triton, in torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from serving.engine import lora_triton
from serving.engine.lora_triton import Table, TritonLora

Call = tuple[Any, tuple[Any, ...], dict[str, Any], Any]


class Tape:
    """See `serving.engine.graphs.Capture`."""

    def __init__(self) -> None:
        self.bytes = 0
        self.captures = self.replays = 0

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        work()  # what is made once is made before
        noted = _Noted()
        with noted:
            work()
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            for function, arguments, options, result in noted.calls:
                _again(function(*arguments, **options), result)

        return replay


class _Noted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("A step that is captured must not wait for the device.")
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result


def _again(made: Any, kept: Any) -> None:
    """Put what an operation makes now where it was made first; a view is there already."""
    if isinstance(kept, torch.Tensor):
        if made.data_ptr() != kept.data_ptr():
            kept.copy_(made)
    elif isinstance(kept, tuple | list):
        for one, other in zip(made, kept, strict=True):
            _again(one, other)


class ByAddress(TritonLora):
    """The kernel on a CPU, as one operation that a tape notes."""

    def __init__(self, dtype: torch.dtype = torch.float32, *, triton: bool = False) -> None:
        super().__init__(torch.device("cpu"), dtype)
        self._add = with_triton if triton else by_address

    def add(self, inputs: torch.Tensor, output: torch.Tensor, table: Table) -> torch.Tensor:
        found: torch.Tensor = self._add(
            inputs, output, table.downs, table.ups, table.ranks, table.most
        )
        return found


@torch.library.custom_op("openledger_bench::with_triton", mutates_args=())
def with_triton(
    inputs: torch.Tensor,
    output: torch.Tensor,
    downs: torch.Tensor,
    ups: torch.Tensor,
    ranks: torch.Tensor,
    most: int,
) -> torch.Tensor:
    return lora_triton.add(inputs, output, Table(downs, ups, ranks, most, []))


@torch.library.custom_op("openledger_bench::by_address", mutates_args=())
def by_address(
    inputs: torch.Tensor,
    output: torch.Tensor,
    downs: torch.Tensor,
    ups: torch.Tensor,
    ranks: torch.Tensor,
    most: int,
) -> torch.Tensor:
    added = output.clone()
    for row, rank in enumerate(ranks.tolist()):
        if rank:
            assert rank <= most
            down = _matrix(int(downs[row]), rank, inputs.shape[1], inputs.dtype)
            up = _matrix(int(ups[row]), rank, output.shape[1], inputs.dtype)
            added[row] += (inputs[row] @ down.T) @ up
    return added


def _matrix(address: int, rank: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    size = rank * width * dtype.itemsize
    memory = (ctypes.c_char * size).from_address(address)
    return torch.frombuffer(memory, dtype=dtype).view(rank, width)


def has_triton() -> bool:
    return find_spec("triton") is not None
