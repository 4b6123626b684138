"""LoRA of decoding rows on a CUDA device in two launches a layer, each row with its own adapter.

A row's matrices are read where they lie, by an address for each row (0: the base), as in Punica
(Chen and others, 2023): nothing is stacked when the rows of a step change, and a row pays for its
own rank. `chosen` says whether a machine has what this needs and is faster by it; elsewhere `lora`
multiplies with torch.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch

from serving.engine.adapters import LoraWeights

logger = logging.getLogger(__name__)

BLOCK = 128  # inputs, or outputs, of one read
ROWS, WIDTH, RANK = 32, 2048, 8  # of the trial
TOLERANCE = 2e-2  # of the largest; sums of bfloat16 are rounded at other places


def chosen(device: torch.device, dtype: torch.dtype) -> TritonLora | None:
    """The kernel where it is right and faster than two batched products, else None."""
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    try:
        off, ours, torchs = trial(device, dtype)
    except Exception:
        # A driver or a compiler that Triton does not like must not keep the engine from its work.
        logger.warning("adapters are multiplied by torch: Triton does not work", exc_info=True)
        return None
    logger.info("Triton: off by %.1e, %.0f us; torch: %.0f us", off, ours * 1e6, torchs * 1e6)
    return TritonLora(device, dtype) if off <= TOLERANCE and ours < torchs else None


def trial(device: torch.device, dtype: torch.dtype) -> tuple[float, float, float]:
    """(how far off, its seconds, torch's seconds) of one layer's decoding rows."""
    kernel = TritonLora(device, dtype)
    down, up = torch.randn(ROWS, RANK, WIDTH), torch.randn(ROWS, WIDTH, RANK)
    rows = [LoraWeights(down[n].bfloat16(), up[n].bfloat16(), 1.0, None) for n in range(ROWS)]
    table = kernel.table(rows)
    x, y = torch.randn(2, ROWS, WIDTH, device=device, dtype=dtype).unbind()
    downs = down.bfloat16().to(device, dtype).transpose(1, 2).contiguous()
    ups = up.bfloat16().to(device, dtype).transpose(1, 2).contiguous()

    def plain() -> torch.Tensor:
        return y + torch.matmul(torch.matmul(x[:, None], downs), ups)[:, 0]

    expected = plain()
    off = float((add(x, y, table) - expected).abs().max() / expected.abs().max())
    return off, _seconds(lambda: add(x, y, table)), _seconds(plain)


def _seconds(work: Callable[[], object]) -> float:
    found = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(20):
            work()
        torch.cuda.synchronize()
        found.append((time.perf_counter() - started) / 20)
    return min(found)


class TritonLora:
    """For one device and one thread. Keeps adapters on the device for as long as they live."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._held: weakref.WeakKeyDictionary[LoraWeights, tuple[torch.Tensor, torch.Tensor]] = (
            weakref.WeakKeyDictionary()
        )

    def table(self, rows: Sequence[LoraWeights | None]) -> Table:
        """What `add` needs of the rows of a step, for one layer."""
        pairs = [None if one is None else self._on_device(one) for one in rows]

        def column(values: list[int], dtype: torch.dtype) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=self._device)

        ranks = [0 if pair is None else len(pair[0]) for pair in pairs]
        return Table(
            column([0 if pair is None else pair[0].data_ptr() for pair in pairs], torch.int64),
            column([0 if pair is None else pair[1].data_ptr() for pair in pairs], torch.int64),
            column(ranks, torch.int32),
            max(ranks),
            pairs,
        )

    def _on_device(self, weights: LoraWeights) -> tuple[torch.Tensor, torch.Tensor]:
        found = self._held.get(weights)
        if found is None:
            # The scaling is in `up`, as where torch multiplies.
            up = weights.up.T.float() * weights.scaling
            down = weights.down.to(self._device, self._dtype).contiguous()
            found = self._held[weights] = down, up.to(self._device, self._dtype).contiguous()
        return found


class Table:
    """Addresses of each row's down (rank, inputs) and up (rank, outputs), its rank, and the most.

    `held` keeps the matrices where they are.
    """

    def __init__(
        self,
        downs: torch.Tensor,
        ups: torch.Tensor,
        ranks: torch.Tensor,
        most: int,
        held: list[tuple[torch.Tensor, torch.Tensor] | None],
    ) -> None:
        self.downs, self.ups, self.ranks, self.most, self.held = downs, ups, ranks, most, held


def add(inputs: torch.Tensor, output: torch.Tensor, table: Table) -> torch.Tensor:
    """inputs (rows, inputs), output (rows, outputs) -> output with each row's own product added."""
    from serving.engine.lora_kernels import down_kernel, up_kernel

    rows, width = inputs.shape
    outputs = output.shape[1]
    ranks = 1 << max(table.most - 1, 0).bit_length()  # a power of two, which Triton asks for
    inputs = inputs.contiguous()
    middle = torch.empty((rows, ranks), dtype=torch.float32, device=inputs.device)
    added = output.contiguous().clone()
    down_kernel[(rows,)](inputs, table.downs, table.ranks, middle, width, most=ranks, block=BLOCK)
    up_kernel[(rows, -(-outputs // BLOCK))](
        middle, table.ups, table.ranks, added, outputs, most=ranks, block=BLOCK
    )
    return added
