"""Processes that make one build together, each with a part of every batch (torch.distributed).

All run the same program on the same records. Of a batch each takes its rows; what comes out is
given to all, so that they go the same way from there and every one of them ends with the whole
index. Only the first one's folder is kept. One process is a crew of one, and none of this happens.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Crew:
    """``size`` processes in the group of torch.distributed; this one is ``rank``."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: str) -> Crew:
        """The processes that `torchrun` has started with this one; a crew of one where none."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if device.startswith("cuda"):
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    def rows(self, count: int) -> tuple[int, int]:
        """Where this one's rows of ``count`` begin and how many each has: the last ones' may reach
        past the end, since all take part in each pass with as many."""
        each = -(-count // self.size)
        return self.rank * each, each

    def gather(self, rows: Tensor) -> Tensor:
        """All rows, those of the first process first, on each of them."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def add(self, tensors: list[Tensor]) -> None:
        """Add each tensor up over all processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def agree(self, value: bool, device: torch.device) -> bool:
        """Whether it is so for all, since all must go the same way."""
        if self.size == 1:
            return value
        found = torch.tensor(int(value), device=device)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MIN)
        return bool(found.item())

    def folder(self, folder: Path) -> Path:
        """Where this one writes: the first in ``folder``, the others beside it."""
        return folder if self.rank == 0 else folder.with_name(f".{folder.name}.{self.rank}")


ALONE = Crew()
