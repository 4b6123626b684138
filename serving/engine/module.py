"""transformers' own forward behind the engine's interface: any causal model, any device."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from serving.engine.adapters import Adapter, Linear, read_adapter
from serving.engine.backend import Batch, Captured, Resident, Residents
from serving.engine.cache import PagedCache
from serving.engine.graphs import Capture, Graphs
from serving.engine.lora import RowAdapters
from serving.engine.lora_triton import TritonLora
from serving.engine.merges import Merge
from serving.engine.merging import merged
from serving.engine.types import UnknownAdapter

PAGE = 16


class ModuleBackend:
    """See `backend.Backend`. Keeps `max_adapters` adapters in memory, the pinned ones besides."""

    kind = "transformers"
    page_size = PAGE

    def __init__(
        self,
        model: Any,
        *,
        slots: int,
        context: int,
        pages: int,
        max_adapters: int = 64,
        base_sha256: str | None = None,
        kernel: TritonLora | None = None,
        capture: Capture | None = None,
    ) -> None:
        """With `capture` steps of decoding rows are captured and replayed (`graphs`)."""
        self._model, self._base_sha256 = model, base_sha256
        self.vocabulary_size = int(model.config.get_text_config().vocab_size)
        self.slots, self.page_count = slots, pages
        self.page_bytes = page_bytes(model)
        self.device = next(model.parameters()).device
        self.dtype = next(model.parameters()).dtype
        self._cache = PagedCache(pages + 1, PAGE)  # the last one takes what padding writes
        self._table = np.zeros((slots, -(-context // PAGE)), np.int64)
        self._placed: list[Adapter | None] = [None] * slots
        modules = adaptable(model)
        self.lora = RowAdapters(modules, kernel)
        self.graphs: Graphs | None = None
        if capture is not None:
            self.lora.hold_up_to(slots)
            self.graphs = Graphs(
                capture,
                self._step,
                self.lora,
                rows=slots,
                pages=self._table.shape[1],
                page_size=PAGE,
                spare_page=pages,
                vocabulary=self.vocabulary_size,
                device=self.device,
            )
        self.linears = {
            name: Linear(
                module.in_features, module.out_features, partial(getattr, module, "weight")
            )
            for name, module in modules.items()
        }
        self._max_adapters = max_adapters
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._seconds: dict[str, float] = {}
        self._hits: dict[str, int] = {}
        self._pinned: set[str] = set()
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._merging = threading.Lock()  # one at a time: parents are copied whole

    # Adapters, from any thread.

    def has(self, name: str) -> bool:
        with self._lock:
            return name in self._adapters

    def load(self, name: str, source: Path | Callable[[], Path]) -> None:
        with self._lock:
            lock = self._loading.setdefault(name, threading.Lock())
        with lock:
            if self.adapter(name) is not None:
                return
            started = time.perf_counter()
            folder = source if isinstance(source, Path) else source()
            adapter = read_adapter(name, folder, self.linears, base_sha256=self._base_sha256)
            self._add(adapter, time.perf_counter() - started)

    def merge(self, merge: Merge) -> None:
        with self._merging:
            if self.adapter(merge.name) is not None:
                return
            started = time.perf_counter()
            parents = [self._parent(name) for name, _ in merge.parents]
            self._add(merged(merge, parents, [*self.linears]), time.perf_counter() - started)

    def _parent(self, name: str) -> Adapter:
        with self._lock:
            if name not in self._adapters:
                raise UnknownAdapter(f"The adapter {name[:12]}… is not loaded.")
            return self._adapters[name]

    def _add(self, adapter: Adapter, seconds: float) -> None:
        name = adapter.name
        with self._lock:
            self._seconds[name], self._hits[name] = seconds, 0
            self._adapters[name] = adapter
            self._loading.pop(name, None)
            self._make_room(name)

    def _make_room(self, kept: str) -> None:
        """The oldest go; a row that still runs keeps its own reference, so this never hurts one."""
        for name in list(self._adapters):
            if len(self._adapters) <= self._max_adapters:
                return
            if name != kept and name not in self._pinned:
                del self._adapters[name], self._seconds[name], self._hits[name]

    def adapter(self, name: str) -> object | None:
        with self._lock:
            found = self._adapters.get(name)
            if found is not None:
                self._adapters.move_to_end(name)
                self._hits[name] += 1
            return found

    def pin(self, name: str, pinned: bool) -> None:
        with self._lock:
            if pinned:
                self._pinned.add(name)
            else:
                self._pinned.discard(name)

    def residents(self) -> Residents:
        with self._lock:
            held = len(self._adapters)
            return Residents(held, sum(one.bytes for one in self._adapters.values()), held)

    def each(self) -> list[Resident]:
        with self._lock:
            return [
                Resident(
                    name, one.bytes, self._seconds[name], self._hits[name], name in self._pinned
                )
                for name, one in self._adapters.items()
            ]

    @property
    def replays_adapters(self) -> bool:
        return self.graphs is not None and self.lora.holds

    @property
    def captured(self) -> Captured:
        return Captured() if self.graphs is None else self.graphs.captured

    # Steps, from the scheduler's thread.

    def place(self, slot: int, pages: list[int], adapter: Any) -> None:
        self._table[slot] = 0
        self._table[slot, : len(pages)] = pages
        self._placed[slot] = adapter

    def free(self, slot: int) -> None:
        self._placed[slot] = None

    def forward(self, batch: Batch) -> torch.Tensor:
        """Rows with one token share a forward, a piece of a prompt has one of its own."""
        found: dict[int, torch.Tensor] = {}
        runs = list(batch.runs())
        single = [start for _, start, count in runs if count == 1]
        groups = [np.array(single)] if single else []
        groups += [np.arange(start, start + count) for _, start, count in runs if count > 1]
        wanted = set(batch.outputs.tolist())
        for group in groups:
            rows = len(group) if group is groups[0] and single else 1
            chosen = [place for place, token in enumerate(group.tolist()) if token in wanted]
            logits = self._model_forward(batch, group, rows, chosen)
            for row, place in enumerate(chosen):
                found[int(group[place])] = logits[row]
        if not found:  # a piece of a prompt that goes on
            return torch.empty((0, self.vocabulary_size))
        return torch.stack([found[token] for token in batch.outputs.tolist()])

    def _model_forward(
        self, batch: Batch, group: Any, rows: int, chosen: list[int]
    ) -> torch.Tensor:
        """`group` is (rows x new) tokens; float logits of the chosen ones (chosen, vocabulary)."""
        slots = batch.slots[group].reshape(rows, -1)[:, 0]
        adapters = [self._placed[slot] for slot in slots]
        if self.graphs is not None and rows == len(group):
            replayed = self.graphs.run(
                batch.ids[group], batch.positions[group], self._table[slots], adapters
            )
            if replayed is not None:
                return replayed[chosen]
        self.lora.select(adapters)
        keep: Any = 1
        if rows == 1 and chosen != [len(group) - 1]:
            keep = torch.tensor(chosen, dtype=torch.long, device=self.device)
        logits = self._step(
            self._tensor(batch.ids[group]).view(rows, -1),
            self._tensor(batch.positions[group]).view(rows, -1),
            self._tensor(self._table[slots]),
            int(batch.positions[group].max()) + 1,
            keep,
        )
        logits = logits.float().cpu().flatten(0, 1)
        return logits if rows == 1 else logits[chosen]

    def _step(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        table: torch.Tensor,
        length: int,
        keep: Any = 1,
    ) -> torch.Tensor:
        """ids and positions (rows, new), table (rows, pages) -> logits (rows, kept, vocabulary).

        `length` is above all positions. It may be captured, so nothing here waits for the device.
        """
        self._cache.select(table, positions, length)
        reach = torch.arange(length, device=self.device) <= positions[:, None, :, None]
        mask = torch.zeros(reach.shape, device=self.device, dtype=self.dtype)
        mask.masked_fill_(~reach, torch.finfo(self.dtype).min)  # (rows, 1, new, length)
        result = self._model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: torch.Tensor = result.logits
        return logits

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(self.device)

    def close(self) -> None:
        """Nothing that Python does not free."""


def adaptable(model: Any) -> dict[str, nn.Linear]:
    """The base's linear layers by module path, but for the one that makes logits."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }


def page_bytes(model: Any) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = next(model.parameters()).element_size()
    return int(2 * config.num_hidden_layers * heads * size * PAGE * width)
