"""The native step behind the engine's interface: float32 on the CPU."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from serving.engine.adapters import Adapter, Linear, read_adapter
from serving.engine.backend import Batch, Captured, Resident, Residents
from serving.engine.blob import check_blob, pack_adapter, unpack_adapter
from serving.engine.merges import Merge
from serving.engine.merging import merged
from serving.engine.native.layout import MODULES, PAGE, Cache, Step, padded
from serving.engine.native.merges import Merges
from serving.engine.native.program import Program
from serving.engine.store import AdapterStore, Warm
from serving.engine.types import AdapterRejected, UnknownAdapter

logger = logging.getLogger(__name__)


class NativeBackend:
    """See `backend.Backend`."""

    page_size = PAGE
    captured = Captured()

    def __init__(
        self,
        library: ctypes.CDLL,
        program: Program,
        folder: Path,
        *,
        slots: int,
        context: int,
        pages: int,
        threads: int,
        warm_bytes: int,
        base_sha256: str | None = None,
        kind: str = "native",
    ) -> None:
        self.kind = kind
        model = program.model
        self._library, self._program = library, program
        self._threads, self._base_sha256 = threads, base_sha256
        self.vocabulary_size = int(model.vocabulary)
        self._handle = library.openledger_engine()
        if not self._handle:
            raise MemoryError("There is no memory for the engine.")
        self.always_adapt = False  # for measurements: base rows too ask for their adapter
        # What a step reads of the base at least: all but the embeddings of other tokens.
        panels = {id(one): one for one, _, _ in program.packed.values()}
        head = 4 if model.head.packed else 1.125
        self.weight_bytes = sum(one.nbytes for one in panels.values()) + int(
            head * padded(self.vocabulary_size) * padded(model.hidden)
        )
        self.page_count = pages
        floats = model.kv_heads * model.size * PAGE
        self.page_bytes = 2 * 4 * floats * model.layers
        # Not touched before it is used, so what no row needs costs no memory.
        self._keys = torch.empty(model.layers * pages * floats)
        self._values = torch.empty(model.layers * pages * floats)
        self._cache = Cache(self._keys.data_ptr(), self._values.data_ptr(), pages)
        self._table = np.zeros((slots, -(-context // PAGE)), np.int32)
        self._adapters = np.zeros(slots, np.uint64)
        self._placed: list[Warm | None] = [None] * slots
        self._linears = {
            name: Linear(inputs, outputs, partial(program.weight, name))
            for name, (_, outputs, inputs) in program.packed.items()
        }
        self._places = {
            name: (int(name.split(".")[2]), MODULES.index(name.rsplit(".", 1)[1]))
            for name in program.packed
        }
        self._shapes = {
            name: (self._places[name], (inputs, outputs))
            for name, (_, outputs, inputs) in program.packed.items()
        }
        shapes = dict(self._shapes.values())
        self._store = AdapterStore(
            folder,
            warm_bytes=warm_bytes,
            check=partial(check_blob, shapes=shapes),
            guard=partial(_guarded, library),
        )
        self._merges = Merges(at_least=slots)
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._merging = threading.Lock()  # one at a time: parents are copied whole

    # Adapters, from any thread.

    def has(self, name: str) -> bool:
        return name in self._store or self._merges.get(name) is not None

    def load(self, name: str, source: Path | Callable[[], Path]) -> None:
        with self._lock:
            lock = self._loading.setdefault(name, threading.Lock())
        with lock:
            if self.adapter(name) is None:
                folder = source if isinstance(source, Path) else source()
                adapter = read_adapter(name, folder, self._linears, base_sha256=self._base_sha256)
                self._store.add(name, pack_adapter(adapter, self._places, self._program.layers))
                self._store.warm(name)
        with self._lock:
            self._loading.pop(name, None)

    def merge(self, merge: Merge) -> None:
        with self._merging:
            if self._merges.get(merge.name) is not None:
                return
            started = time.perf_counter()
            made = merged(merge, [self._parent(name) for name, _ in merge.parents], [*self._places])
            blob = pack_adapter(made, self._places, self._program.layers)
            self._merges.add(merge.name, blob, time.perf_counter() - started)

    def _parent(self, name: str) -> Adapter:
        try:
            self._store.warm(name)  # checked
            found = unpack_adapter(name, self._store.view(name), self._shapes)
            self._store.warm(name)  # and still there when it was read
            return found
        except KeyError:
            raise UnknownAdapter(f"The adapter {name[:12]}… is not loaded.") from None

    def adapter(self, name: str) -> object | None:
        merge = self._merges.get(name)
        if merge is not None:
            return merge
        try:
            return self._store.warm(name)
        except KeyError:
            return None

    def pin(self, name: str, pinned: bool) -> None:
        if self._merges.get(name) is None:  # a merge is kept while it is asked for
            self._store.pin(name, pinned)

    def residents(self) -> Residents:
        tiers = self._store.tiers()
        merges = self._merges.residents().values()
        return Residents(
            tiers.warm + len(merges),
            tiers.warm_bytes + sum(one.size for one in merges),
            tiers.registered,
        )

    def each(self) -> list[Resident]:
        return [
            Resident(name, one.size, one.load_seconds, one.hits, one.pinned)
            for name, one in [*self._store.residents().items(), *self._merges.residents().items()]
        ]

    # Steps, from the scheduler's thread.

    def place(self, slot: int, pages: list[int], adapter: Warm | None) -> None:
        self._table[slot, : len(pages)] = pages
        self._placed[slot] = adapter
        self._adapters[slot] = 0 if adapter is None else adapter.address

    def free(self, slot: int) -> None:
        self._placed[slot] = None
        self._adapters[slot] = 0

    def forward(self, batch: Batch) -> torch.Tensor:
        """Raises AdapterRejected where an adapter of the step was cut off on the disk."""
        wanted = len(batch.outputs)
        logits = torch.empty((wanted, padded(self.vocabulary_size)))
        # Rows of the base alone take the same way as if there were no adapters at all.
        adapted = self.always_adapt or bool(self._adapters[batch.slots].any())
        step = Step(
            tokens=len(batch.ids),
            wanted=wanted,
            threads=self._threads,
            page_columns=self._table.shape[1],
            ids=batch.ids.ctypes.data,
            positions=batch.positions.ctypes.data,
            rows=batch.slots.ctypes.data,
            pages=self._table.ctypes.data,
            adapters=self._adapters.ctypes.data if adapted else None,
            outputs=batch.outputs.ctypes.data,
            logits=logits.data_ptr(),
        )
        failed = self._library.openledger_step(
            self._handle,
            ctypes.addressof(self._program.model),
            ctypes.addressof(self._cache),
            ctypes.addressof(step),
        )
        if failed:
            raise MemoryError("There is no memory for a step.")
        placed = (self._placed[slot] for slot in set(batch.slots.tolist()))
        if not self._store.holds(one for one in placed if one is not None):
            raise AdapterRejected(
                "The packed adapter was cut off on the disk. You were not charged; ask again."
            )
        return logits[:, : self.vocabulary_size]

    def close(self) -> None:
        if self._handle:
            self._library.openledger_close(self._handle)
            self._handle = None


def _guarded(library: ctypes.CDLL, address: int, size: int) -> Callable[[], object]:
    """Lets reads of a mapping outlive its file; returns what ends that."""
    if library.openledger_guard(address, size):
        logger.warning("a mapping of adapters is not guarded against a file that is cut short")
    return partial(library.openledger_unguard, address)
