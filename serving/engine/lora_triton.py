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

import numpy as np
import numpy.typing as npt
import torch

from serving.engine.adapters import Adapter, LoraWeights

logger = logging.getLogger(__name__)

Numbers = npt.NDArray[np.int64]

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
        self.device, self._dtype = device, dtype
        self._held: weakref.WeakKeyDictionary[LoraWeights, tuple[torch.Tensor, torch.Tensor]] = (
            weakref.WeakKeyDictionary()
        )

    def table(self, rows: Sequence[LoraWeights | None]) -> Table:
        """What `add` needs of the rows of a step, for one layer."""
        pairs = [None if one is None else self._on_device(one) for one in rows]

        def column(values: list[int], dtype: torch.dtype) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=self.device)

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
            down = weights.down.to(self.device, self._dtype).contiguous()
            found = self._held[weights] = down, up.to(self.device, self._dtype).contiguous()
        return found

    def add(self, inputs: torch.Tensor, output: torch.Tensor, table: Table) -> torch.Tensor:
        """(rows, inputs), (rows, outputs) -> output with each row's own product added."""
        return add(inputs, output, table)

    def column(self, adapter: Adapter, names: Sequence[str]) -> Numbers | None:
        """(3, layers): addresses of down and up and the rank, zeros where it is not on a layer.

        None where it has magnitudes (DoRA), which the kernel does not know.
        """
        column = np.zeros((3, len(names)), np.int64)
        for place, name in enumerate(names):
            weights = adapter.layers.get(name)
            if weights is None:
                continue
            if weights.rescale is not None:
                return None
            down, up = self._on_device(weights)
            column[:, place] = down.data_ptr(), up.data_ptr(), len(down)
        return column


class Held:
    """The tables of all layers at addresses that stay, so that a captured step may read them."""

    def __init__(self, kernel: TritonLora, names: Sequence[str], rows: int) -> None:
        self._kernel, self._names = kernel, list(names)
        self._place = {name: place for place, name in enumerate(self._names)}
        # An even number of rows: Triton compiles once more for addresses that 16 does not divide.
        shape = (3, len(self._names), rows + rows % 2)
        self._numbers = torch.zeros(shape, dtype=torch.int64, device=kernel.device)
        self._columns: weakref.WeakKeyDictionary[Adapter, Numbers | None] = (
            weakref.WeakKeyDictionary()
        )

    def fill(self, rows: Sequence[Adapter | None]) -> int | None:
        """Set the adapters of the first rows, none for the others; returns the highest rank.

        None where one has magnitudes; nothing is set then. Adapters must be kept while they are
        read: their matrices go with them.
        """
        numbers = np.zeros(self._numbers.shape, np.int64)
        for place, adapter in enumerate(rows):
            if adapter is None:
                continue
            if adapter not in self._columns:
                self._columns[adapter] = self._kernel.column(adapter, self._names)
            column = self._columns[adapter]
            if column is None:
                return None
            numbers[:, :, place] = column
        self._numbers.copy_(torch.from_numpy(numbers))
        return int(numbers[2].max())

    def table(self, name: str, rows: int, most: int) -> Table:
        downs, ups, ranks = self._numbers[:, self._place[name], :rows]
        return Table(downs, ups, ranks, most, [])


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
