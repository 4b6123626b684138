"""OpenLoRA's engine: one resident base, many adapters, requests that share a batch.

A scheduler thread owns the model. Each turn it takes in one waiting request piece by piece
(chunked prefill) and decodes one token for every running row, whatever its adapter, so a long
prompt does not stop the others. Callers on any thread get an iterator of tokens.

Limits: memory for the cache grows with `max_active` times the longest row; requests beyond
`max_active` wait in order of arrival. With bfloat16 or float16 a near tie may fall differently
when other rows share the batch; float32 keeps greedy answers the same up to such ties.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from serving.engine.adapters import Adapter, read_adapter
from serving.engine.base import load_base
from serving.engine.cache import LaneCache
from serving.engine.lora import RowAdapters
from serving.engine.row import Row, TokenStream
from serving.engine.types import (
    BadRequest,
    EngineClosed,
    EngineError,
    Finish,
    Request,
    UnknownAdapter,
)

logger = logging.getLogger(__name__)

PREFILL_CHUNK = 256  # prompt tokens per turn


@dataclass(frozen=True, slots=True)
class Residency:
    """What the engine holds at the moment."""

    adapters: int
    adapter_bytes: int
    active: int
    waiting: int
    cache_bytes: int
    threads: int


class Engine:
    """Thread-safe; make one per process and base, `close` it at the end."""

    def __init__(
        self,
        base_folder: Path,
        device: str = "cpu",
        dtype: str = "float32",
        threads: int = 1,
        max_active: int = 16,
        *,
        max_adapters: int = 64,
        max_context: int | None = None,
        base_sha256: str | None = None,
    ) -> None:
        """Load the base and start the scheduler thread.

        `threads` is the number of CPU threads of a step, explicit because two threads on two
        busy cores are several times slower than one. Adapters whose configuration names other
        `base_weights_sha256` than `base_sha256` are refused.
        """
        if threads < 1 or max_active < 1 or max_adapters < 1:
            raise ValueError("threads, max_active and max_adapters are at least 1.")
        self.threads = threads
        self.max_active = max_active
        self.max_adapters = max_adapters
        self.device = device
        self._base = load_base(base_folder, device=device, dtype=dtype, max_context=max_context)
        self.context = self._base.context
        self.base_sha256 = base_sha256
        self._cache = LaneCache(max_active + 1, self.context)
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._lora = RowAdapters(self._base.linears)
        self._decoding: list[Row] = []
        self._prefilling: Row | None = None
        self._waiting: deque[Row] = deque()
        self._rows: dict[str, Row] = {}
        self._state = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # What callers use, from any thread.

    def ensure_adapter(self, name: str, source: Path | Callable[[], Path]) -> None:
        """Have the adapter loaded: validated and on the device; others keep running meanwhile.

        `name` is its content hash (`adapters.adapter_name`), which is checked; `source` its
        folder or what makes the folder, called only where the adapter is not loaded.
        Raises AdapterRejected.
        """
        with self._state:
            if name in self._adapters:
                self._adapters.move_to_end(name)
                return
            lock = self._loading.setdefault(name, threading.Lock())
        with lock:
            with self._state:
                if name in self._adapters:
                    return
            folder = source if isinstance(source, Path) else source()
            adapter = read_adapter(name, folder, self._base.linears, base_sha256=self.base_sha256)
            with self._state:
                self._adapters[name] = adapter
                self._loading.pop(name, None)
                while len(self._adapters) > self.max_adapters:
                    # A row that still runs keeps its own reference, so this never hurts one.
                    self._adapters.popitem(last=False)

    def generate(self, request: Request) -> TokenStream:
        """Queue a request; iterate over the result for its tokens.

        Raises BadRequest, UnknownAdapter or EngineClosed at once, an EngineError while iterating
        where the request fails later. Leaving the loop early or `close()` cancels it.
        """
        self._check(request)
        with self._state:
            if self._closed:
                raise EngineClosed("The engine is shutting down.")
            if request.request_id in self._rows:
                raise BadRequest(f"A request {request.request_id} is running already.")
            adapter = None
            if request.adapter is not None:
                adapter = self._adapters.get(request.adapter)
                if adapter is None:
                    raise UnknownAdapter(f"The adapter {request.adapter[:12]}… is not loaded.")
                self._adapters.move_to_end(request.adapter)
            row = Row(request, adapter, self._base.vocabulary, self.context)
            self._rows[request.request_id] = row
            self._waiting.append(row)
            self._state.notify()
        return TokenStream(row, self.cancel)

    def cancel(self, request_id: str) -> None:
        """Stop a request; its iterator ends with a token that says `cancelled`."""
        with self._state:
            row = self._rows.get(request_id)
            if row is not None:
                row.cancelled = True
                self._state.notify()

    def residency(self) -> Residency:
        with self._state:
            return Residency(
                adapters=len(self._adapters),
                adapter_bytes=sum(adapter.bytes for adapter in self._adapters.values()),
                active=len(self._decoding) + (self._prefilling is not None),
                waiting=len(self._waiting),
                cache_bytes=self._cache.bytes(),
                threads=self.threads,
            )

    def close(self) -> None:
        """Fail what still runs with EngineClosed and stop the scheduler."""
        with self._state:
            self._closed = True
            self._state.notify()
        self._thread.join()

    def _check(self, request: Request) -> None:
        ids = request.input_ids
        if not ids:
            raise BadRequest("The prompt is empty.")
        if len(ids) >= self.context:
            raise BadRequest(f"The prompt has {len(ids)} tokens, the context {self.context}.")
        if min(ids) < 0 or max(ids) >= self._base.vocabulary_size:
            raise BadRequest("The prompt holds a token that the base does not have.")
        if request.max_tokens < 1:
            raise BadRequest("max_tokens is at least 1.")
        if not 0.0 <= request.temperature <= 100.0 or not 0.0 < request.top_p <= 1.0:
            raise BadRequest("temperature is from 0 to 100, top_p above 0 and at most 1.")

    # The scheduler thread.

    def _run(self) -> None:
        # OpenMP keeps the number per thread, so it is set where the work is done.
        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            while self._wait_for_work():
                self._turn()
        for row in self._take_all():
            row.fail(EngineClosed("The engine was shut down."))

    def _wait_for_work(self) -> bool:
        with self._state:
            while not (self._closed or self._decoding or self._prefilling or self._waiting):
                self._state.wait()
            return not self._closed

    def _turn(self) -> None:
        try:
            self._drop_cancelled()
            self._prefill()
            self._decode()
        except Exception as error:
            # Whatever happened, the thread lives on for the next requests.
            logger.exception("engine step failed")
            for row in self._take_all(waiting=False):
                row.fail(EngineError(f"The engine failed: {type(error).__name__}."))

    def _take_all(self, *, waiting: bool = True) -> list[Row]:
        with self._state:
            rows = list(self._decoding)
            rows += [self._prefilling] if self._prefilling else []
            rows += self._waiting if waiting else ()
            self._decoding, self._prefilling = [], None
            if waiting:
                self._waiting.clear()
            for row in rows:
                self._rows.pop(row.request.request_id, None)
            return rows

    def _drop_cancelled(self) -> None:
        for place in range(len(self._decoding) - 1, -1, -1):
            if self._decoding[place].cancelled:
                self._decoding[place].finish(None, Finish.CANCELLED)
                self._remove(place)
        if self._prefilling is not None and self._prefilling.cancelled:
            self._prefilling.finish(None, Finish.CANCELLED)
            self._forget(self._prefilling)
            self._prefilling = None
        with self._state:
            dropped = [row for row in self._waiting if row.cancelled]
            for row in dropped:
                self._waiting.remove(row)
        for row in dropped:
            row.finish(None, Finish.CANCELLED)
            self._forget(row)

    def _prefill(self) -> None:
        """One chunk of the prompt that is being taken in; its lane follows the decoding ones."""
        if self._prefilling is None:
            with self._state:
                if not self._waiting or len(self._decoding) >= self.max_active:
                    return
                self._prefilling = self._waiting.popleft()
        row, lane = self._prefilling, len(self._decoding)
        try:
            logits = self._prefill_chunk(row, lane)
        except Exception as error:
            logger.exception("prefill failed")
            self._prefilling = None
            self._forget(row)
            row.fail(EngineError(f"The engine failed: {type(error).__name__}."))
            return
        if row.length == len(row.request.input_ids):
            self._prefilling = None
            self._decoding.append(row)
            self._emit(logits)

    def _prefill_chunk(self, row: Row, lane: int) -> torch.Tensor:
        if row.length == 0:
            self._cache.clear(lane)
        chunk = row.request.input_ids[row.length : row.length + PREFILL_CHUNK]
        length = row.length + len(chunk)
        positions = torch.arange(row.length, length, device=self.device)[None]
        logits = self._forward(
            torch.tensor([chunk], device=self.device), positions, slice(lane, lane + 1), [row]
        )
        row.length = length
        return logits

    def _decode(self) -> None:
        """One more token for each running row."""
        rows = self._decoding
        if not rows:
            return
        tokens = torch.tensor([[row.last_token] for row in rows], device=self.device)
        positions = torch.tensor([[row.length] for row in rows], device=self.device)
        logits = self._forward(tokens, positions, slice(0, len(rows)), rows)
        for row in rows:
            row.length += 1
        self._emit(logits)

    def _forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, lanes: slice, rows: Sequence[Row]
    ) -> torch.Tensor:
        """tokens and positions (rows, new) -> float logits of the last token (rows, vocabulary)."""
        length = int(positions.max()) + 1
        self._cache.select(lanes, positions, length)
        self._lora.select([row.adapter for row in rows])
        reach = torch.arange(length, device=self.device) <= positions[:, None, :, None]
        dtype = self._base.dtype
        mask = torch.zeros(reach.shape, device=self.device, dtype=dtype)
        mask.masked_fill_(~reach, torch.finfo(dtype).min)  # (rows, 1, new, length)
        result = self._base.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = result.logits[:, -1].float()
        return logits

    def _emit(self, logits: torch.Tensor) -> None:
        """Draw a token for the last rows of the batch, one for each row of `logits`."""
        first = len(self._decoding) - logits.shape[0]
        finite = torch.isfinite(logits).all(-1).tolist()
        if self.device != "cpu":
            logits = logits.cpu()
        for place in range(len(self._decoding) - 1, first - 1, -1):
            row = self._decoding[place]
            if not finite[place - first]:
                row.fail(EngineError("The adapter makes the model compute no numbers (NaN)."))
                self._remove(place)
            elif row.take(row.sampler.choose(logits[place - first]), self._base.end_tokens):
                self._remove(place)

    def _remove(self, place: int) -> None:
        """Take a row out; the last lanes move up so that running rows stay side by side."""
        row = self._decoding[place]
        last = len(self._decoding) - 1
        moved = self._decoding.pop()
        if place != last:
            self._decoding[place] = moved
            self._cache.move(last, place, moved.length)
        if self._prefilling is not None:
            self._cache.move(last + 1, last, self._prefilling.length)
        self._forget(row)

    def _forget(self, row: Row) -> None:
        with self._state:
            self._rows.pop(row.request.request_id, None)
