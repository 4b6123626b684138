"""What computes a step: one interface, the native step on a CPU or transformers' own anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from serving.engine.merges import Merge

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens of a step; those of one slot are neighbours, in order.

    ids, positions and slots are (tokens,); `outputs` says which tokens' logits are wanted.
    """

    ids: Ints
    positions: Ints
    slots: Ints
    outputs: Ints

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """(slot, first token, tokens) of each row of the step."""
        edges = np.flatnonzero(np.diff(self.slots)) + 1
        starts = [0, *edges.tolist()]
        for start, end in zip(starts, [*edges.tolist(), len(self.slots)], strict=True):
            yield int(self.slots[start]), start, end - start


@dataclass(frozen=True, slots=True)
class Resident:
    """An adapter in memory: how long its last load took and how often it was asked for since."""

    name: str
    bytes: int
    load_seconds: float
    hits: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class Residents:
    """What a backend holds of adapters: counts, and bytes of those in memory."""

    adapters: int
    bytes: int
    registered: int


@dataclass(frozen=True, slots=True)
class Captured:
    """Steps that a device replays (`graphs`), and the bytes of its memory that they keep."""

    graphs: int = 0
    bytes: int = 0


class Backend(Protocol):
    """For the scheduler's thread, but for `load`, `has` and `residents`."""

    kind: str
    page_count: int
    page_size: int  # tokens
    page_bytes: int  # of all layers

    def has(self, name: str) -> bool: ...

    def load(self, name: str, source: Path | Callable[[], Path]) -> None:
        """Validate the adapter and have it in memory. Raises AdapterRejected."""

    def adapter(self, name: str) -> object | None:
        """What `place` takes; None where the adapter is not there."""

    def merge(self, merge: Merge) -> None:
        """Have a merge of loaded adapters in memory under its name.

        Raises UnknownAdapter where a parent is not loaded, BadRequest where they do not fit.
        """

    def pin(self, name: str, pinned: bool) -> None: ...

    def residents(self) -> Residents: ...

    def each(self) -> list[Resident]:
        """Those in memory, the longest unused first."""

    @property
    def captured(self) -> Captured: ...

    def place(self, slot: int, pages: list[int], adapter: Any) -> None:
        """Say which pages and which adapter (None: the base) the row in `slot` has."""

    def free(self, slot: int) -> None: ...

    def forward(self, batch: Batch) -> torch.Tensor:
        """Float logits on the CPU (outputs, vocabulary).

        An EngineError is about a row of the batch, and told to whoever asked for it.
        """

    def close(self) -> None: ...
