"""Decode steps that a device replays: one launch in place of some hundreds, each from Python.

A captured step holds shapes and addresses, never values. Tokens, positions and pages lie in one
buffer, the rows' adapters in tables of addresses (`lora_triton.Held`); both are written before each
replay, so adapters may come and go between two. A step is captured once for each number of rows and
length of context, rounded up, when it is asked for first. What pads is no adapter's and writes to a
page that is nobody's. Whatever is not captured is computed as without graphs: pieces of prompts,
adapters with magnitudes (DoRA) or without the kernel, and what a device refuses to capture.

Only `CudaCapture` needs a device; a capture of another kind can be handed in.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from serving.engine.adapters import Adapter
from serving.engine.backend import Captured
from serving.engine.lora import RowAdapters
from serving.engine.types import MAX_RANK

logger = logging.getLogger(__name__)

MOST = 64  # graphs; each has its kernels' arguments on the device, besides the pool that all share
FEWEST_PAGES = 16  # of a row, and
LEAST_RANK = 8  # of an adapter: less would be one graph more for nothing
WARM_UPS = 2  # Triton compiles and cuBLAS makes its room before anything is captured

Work = Callable[[], None]
# (rows, 1) ids, (rows, 1) positions, (rows, pages) table, tokens of a row -> (rows, 1, vocabulary)
Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
Numbers = npt.NDArray[np.int64]


class Capture(Protocol):
    """What a device brings."""

    bytes: int  # that its captured work keeps

    def capture(self, work: Work) -> Work:
        """Returns what does the same work again on the same memory. Raises where it cannot."""


class CudaCapture:
    """CUDA graphs that share a pool: they are never replayed at the same time."""

    # PyTorch takes one capture at a time in a process, which may have an engine for each base.
    _alone = threading.Lock()

    def __init__(self, device: torch.device) -> None:
        self.bytes = 0
        self._device = device
        self._cuda: Any = torch.cuda  # parts of it have no types
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = self._cuda.Stream()

    def capture(self, work: Work) -> Work:
        with self._alone, torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            try:
                self._stream.wait_stream(before)
                with torch.cuda.stream(self._stream):
                    for _ in range(WARM_UPS):
                        work()
                before.wait_stream(self._stream)
                graph = torch.cuda.CUDAGraph()
                # Other threads read adapters meanwhile, which must not spoil the capture.
                with torch.cuda.graph(
                    graph,
                    pool=self._pool,
                    stream=self._stream,
                    capture_error_mode="thread_local",
                ):
                    work()
            finally:
                # Where a capture fails, torch leaves its stream the current one.
                torch.cuda.set_stream(before)
            segments = self._cuda.memory_snapshot(self._pool, include_traces=False)
            self.bytes = sum(int(one["total_size"]) for one in segments)
        replay: Work = graph.replay
        return replay


class Shape(NamedTuple):
    """What a graph is captured for: the most that it can take."""

    rows: int
    pages: int
    rank: int  # 0: no row has an adapter, so none is asked for one
    layers: int  # that adapters seen so far are on


class Graphs:
    """For the scheduler's thread alone."""

    def __init__(
        self,
        capture: Capture,
        step: Step,
        adapters: RowAdapters,
        *,
        rows: int,
        pages: int,
        page_size: int,
        spare_page: int,
        vocabulary: int,
        device: torch.device,
    ) -> None:
        """`rows` and `pages` (of a row) are the most; `spare_page` takes what padding writes."""
        self._capture, self._step, self._adapters = capture, step, adapters
        self._rows, self._pages, self._page_size = rows, pages, page_size
        # Of each row its token, its position, its pages; padding stays as it is here.
        self._padding = np.full((rows, 2 + pages), spare_page, np.int64)
        self._padding[:, :2] = 0
        self._inputs = torch.tensor(self._padding, device=device)
        self._logits = torch.zeros((rows, vocabulary), device=device)
        self._replays: OrderedDict[Shape, Work | None] = OrderedDict()
        self.captured = Captured()  # for all threads

    def run(
        self, ids: Numbers, positions: Numbers, table: Numbers, adapters: Sequence[Adapter | None]
    ) -> torch.Tensor | None:
        """One token for each row: float logits on the CPU (rows, vocabulary).

        ids and positions are (rows,), table is (rows, pages). None where the step cannot be
        replayed; nothing has happened then.
        """
        rank = self._adapters.hold(adapters)
        if rank is None:
            return None
        shape = self._shape(len(ids), int(positions.max()) + 1, rank)
        given = self._padding[: shape.rows].copy()
        given[: len(ids), 0], given[: len(ids), 1], given[: len(ids), 2:] = ids, positions, table
        self._inputs[: shape.rows].copy_(torch.from_numpy(given))
        replay = self._replay_of(shape)
        if replay is None:
            return None
        replay()
        return self._logits[: len(ids)].cpu()

    def _shape(self, rows: int, tokens: int, rank: int) -> Shape:
        pages = max(-(-tokens // self._page_size), FEWEST_PAGES)
        return Shape(
            _up(rows, self._rows),
            _up(pages, self._pages),
            _up(max(rank, LEAST_RANK), MAX_RANK) if rank else 0,
            self._adapters.layers if rank else 0,
        )

    def _replay_of(self, shape: Shape) -> Work | None:
        if shape in self._replays:
            self._replays.move_to_end(shape)
            return self._replays[shape]
        for old in [one for one in self._replays if 0 < one.layers < shape.layers]:
            del self._replays[old]  # of before an adapter was on more layers; never asked again
        if len(self._replays) >= MOST:
            self._replays.popitem(last=False)
        self._replays[shape] = self._made(shape)
        made = sum(replay is not None for replay in self._replays.values())
        self.captured = Captured(made, self._capture.bytes)
        return self._replays[shape]

    def _made(self, shape: Shape) -> Work | None:
        def work() -> None:
            self._adapters.use_held(shape.rows, shape.rank)
            inputs = self._inputs[: shape.rows]
            logits = self._step(
                inputs[:, :1],
                inputs[:, 1:2],
                inputs[:, 2 : 2 + shape.pages],
                shape.pages * self._page_size,
            )
            self._logits[: shape.rows].copy_(logits[:, -1])

        try:
            replay = self._capture.capture(work)
        except Exception:
            logger.warning("steps of %s are not replayed: no capture", shape, exc_info=True)
            return None
        logger.info("captured %s; graphs keep %d MB", shape, self._capture.bytes >> 20)
        return replay


def _up(count: int, most: int) -> int:
    """The next power of two, at most `most`."""
    return min(1 << (count - 1).bit_length(), most)
