"""OpenLoRA's engine: one resident base, many adapters, requests that share a batch.

A thread of its own owns the model and takes turns (`scheduler`); callers on any thread get an
iterator of tokens. What computes a step is a backend (`choosing`): the native step in C++ for
Llama-like models in float32 on a CPU, transformers' own forward for everything else.

Limits: keys and values have a budget in bytes; requests beyond `max_active`, or beyond the budget,
wait for their turn. The native step gives a row the same numbers whoever shares the batch; in
transformers a near tie may fall differently in other company.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from serving.engine.backend import Resident
from serving.engine.base import load_base
from serving.engine.choosing import Needs, choose
from serving.engine.constraint import Constraints
from serving.engine.merges import Merge
from serving.engine.quality import evaluation_of
from serving.engine.row import Row, TokenStream
from serving.engine.scheduler import Scheduler
from serving.engine.types import (
    MAX_LOGPROBS,
    BadRequest,
    EngineClosed,
    Request,
    UnknownAdapter,
)

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Residency:
    """What the engine holds at the moment.

    `adapters` and `adapter_bytes` are those in memory, `registered` all that are packed on disk;
    `cache_bytes` belongs to running rows, `kept_bytes` to prompts that may be asked again. The
    counters since the start: tokens of prompts and of them those that the cache had, tokens of
    answers, steps and the rows that shared them. `graphs` are steps that a device replays, which
    keep `graph_bytes` of its memory.
    """

    adapters: int
    adapter_bytes: int
    active: int
    waiting: int
    cache_bytes: int
    threads: int
    registered: int = 0
    kept_bytes: int = 0
    cached_tokens: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    steps: int = 0
    step_rows: int = 0
    backend: str = ""
    graphs: int = 0
    graph_bytes: int = 0


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
        backend: str | None = None,
        cache_bytes: int = GIB,
        adapter_folder: Path | None = None,
        adapter_bytes: int = 2 * GIB,
        cpus: frozenset[int] = frozenset(),
        int8: bool = False,
        graphs: bool = True,
    ) -> None:
        """Load the base and start the scheduler's thread.

        `threads` is the number of CPU threads of a step, explicit because two threads on two
        busy cores are several times slower than one. Adapters whose configuration names other
        `base_weights_sha256` than `base_sha256` are refused. `backend` is "native" or
        "transformers", None for the better one. Packed adapters are kept in `adapter_folder`
        (None: until the engine is closed), of which `adapter_bytes` stay in memory; without the
        native step `max_adapters` do. The steps are computed on `cpus`, where Linux binds
        threads; none leaves that to the system. With `int8` the base's weights are kept in 8 bits
        where the base brings an evaluation and passes it (`quality`). With `graphs` a CUDA device
        captures steps and replays them, where that gives the same logits sooner.
        """
        if threads < 1 or max_active < 1 or max_adapters < 1:
            raise ValueError("threads, max_active and max_adapters are at least 1.")
        self.threads = threads
        self.cpus = cpus
        self.max_active = max_active
        self.device = device
        self.base_sha256 = base_sha256
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if adapter_folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="adapters-")
            adapter_folder = Path(self._folder.name)
        model, base = load_base(base_folder, device=device, dtype=dtype, max_context=max_context)
        self.context = base.context
        self._base = base
        self._constraints = Constraints(base.vocabulary, base.vocabulary_size, base.end_tokens)
        needs = Needs(
            slots=max_active,
            context=base.context,
            threads=threads,
            cache_bytes=cache_bytes,
            store=adapter_folder,
            warm_bytes=adapter_bytes,
            max_adapters=max_adapters,
            base_sha256=base_sha256,
            int8=evaluation_of(base_folder) if int8 else (),
            graphs=graphs,
        )
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            self.backend = choose(model, needs, backend)
        finally:
            torch.set_num_threads(before)
        self._scheduler = Scheduler(self.backend, base, max_active)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # What callers use, from any thread.

    def ensure_adapter(self, name: str, source: Path | Callable[[], Path]) -> None:
        """Have the adapter validated and in memory; others keep running meanwhile.

        `name` is its content hash (`adapters.adapter_name`), which is checked; `source` its
        folder or what makes the folder, called only where the adapter is not loaded.
        Raises AdapterRejected.
        """
        self.backend.load(name, source)

    def ensure_merged(self, merge: Merge) -> str:
        """Have a merge of loaded adapters in memory; returns the name that a request asks for.

        It is computed on the caller's thread, once: other rows keep running, and the next that
        asks the same finds it. Raises UnknownAdapter and BadRequest.
        """
        merge.check()
        self.backend.merge(merge)
        return merge.name

    def pin_adapter(self, name: str, pinned: bool = True) -> None:
        """Keep an adapter in memory whatever else is asked for. Raises UnknownAdapter."""
        if not self.backend.has(name):
            raise UnknownAdapter(f"The adapter {name[:12]}… is not loaded.")
        self.backend.pin(name, pinned)

    def generate(self, request: Request) -> TokenStream:
        """Queue a request; iterate over the result for its tokens.

        Raises BadRequest, UnknownAdapter or EngineClosed at once, an EngineError while iterating
        where the request fails later. Leaving the loop early or `close()` cancels it.
        """
        self._check(request)
        adapter = None
        if request.adapter is not None:
            adapter = self.backend.adapter(request.adapter)
            if adapter is None:
                raise UnknownAdapter(f"The adapter {request.adapter[:12]}… is not loaded.")
        constraint = self._constraints.of(request.json_schema) if request.json_schema else None
        row = Row(request, adapter, self._base.vocabulary, self.context, constraint)
        if self._scheduler.pages.needed(row.most) > self.backend.page_count:
            raise BadRequest("The prompt and max_tokens are more than the engine's memory holds.")
        with self._scheduler.lock:
            if self._closed:
                raise EngineClosed("The engine is shutting down.")
            if request.request_id in self._scheduler.rows:
                raise BadRequest(f"A request {request.request_id} is running already.")
            self._scheduler.rows[request.request_id] = row
            self._scheduler.waiting.push(row)
            self._scheduler.lock.notify()
        return TokenStream(row, self.cancel)

    def cancel(self, request_id: str) -> None:
        """Stop a request; its iterator ends with a token that says `cancelled`."""
        with self._scheduler.lock:
            row = self._scheduler.rows.get(request_id)
            if row is not None:
                row.cancelled = True
                self._scheduler.lock.notify()

    def hold(self, owner: str, seconds: float) -> None:
        """Let the rows of `owner` stand still for so long, or until `go_on`."""
        with self._scheduler.lock:
            self._scheduler.hold(owner, seconds)

    def go_on(self) -> None:
        """Nobody's rows stand still any more."""
        with self._scheduler.lock:
            self._scheduler.go_on()
            self._scheduler.lock.notify()

    def residency(self) -> Residency:
        held, captured = self.backend.residents(), self.backend.captured
        scheduler = self._scheduler
        with scheduler.lock:
            return Residency(
                adapters=held.adapters,
                adapter_bytes=held.bytes,
                active=scheduler.active,
                waiting=len(scheduler.waiting),
                cache_bytes=scheduler.pages.used * self.backend.page_bytes,
                threads=self.threads,
                registered=held.registered,
                kept_bytes=scheduler.pages.kept * self.backend.page_bytes,
                cached_tokens=scheduler.pages.hits,
                prompt_tokens=scheduler.pages.asked,
                answer_tokens=scheduler.answered,
                steps=scheduler.steps,
                step_rows=scheduler.step_rows,
                backend=self.backend.kind,
                graphs=captured.graphs,
                graph_bytes=captured.bytes,
            )

    def adapters(self) -> list[Resident]:
        """The adapters in memory, the longest unused first."""
        return self.backend.each()

    def close(self) -> None:
        """Fail what still runs with EngineClosed and stop the scheduler."""
        with self._scheduler.lock:
            if self._closed:
                return
            self._closed = True
            self._scheduler.lock.notify()
        self._thread.join()
        self.backend.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _check(self, request: Request) -> None:
        ids = request.input_ids
        if not ids:
            raise BadRequest("The prompt is empty.")
        if len(ids) >= self.context:
            raise BadRequest(f"The prompt has {len(ids)} tokens, the context {self.context}.")
        size = self._base.vocabulary_size
        if min(ids) < 0 or max(ids) >= size:
            raise BadRequest("The prompt holds a token that the base does not have.")
        if request.max_tokens < 1:
            raise BadRequest("max_tokens is at least 1.")
        if not 0.0 <= request.temperature <= 100.0 or not 0.0 < request.top_p <= 1.0:
            raise BadRequest("temperature is from 0 to 100, top_p above 0 and at most 1.")
        if request.top_k < 0 or not 0.0 <= request.min_p <= 1.0:
            raise BadRequest("top_k is 0 or more, min_p from 0 to 1.")
        if not (
            -2.0 <= request.frequency_penalty <= 2.0 and -2.0 <= request.presence_penalty <= 2.0
        ):
            raise BadRequest("frequency_penalty and presence_penalty are from -2 to 2.")
        if not 0.01 <= request.repetition_penalty <= 100.0:
            raise BadRequest("repetition_penalty is from 0.01 to 100.")
        if not all(0 <= token < size for token in request.logit_bias):
            raise BadRequest("logit_bias names a token that the base does not have.")
        if not all(-100.0 <= bias <= 100.0 for bias in request.logit_bias.values()):
            raise BadRequest("logit_bias is from -100 to 100.")
        if request.logprobs is not None and not 0 <= request.logprobs <= MAX_LOGPROBS:
            raise BadRequest(f"logprobs is from 0 to {MAX_LOGPROBS}.")

    # The scheduler's thread.

    def _run(self) -> None:
        # OpenMP keeps the number per thread, so it is set where the work is done.
        torch.set_num_threads(self.threads)
        if self.cpus and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cpus)  # this thread alone, and those that it starts
        with torch.inference_mode():
            while self._wait_for_work():
                self._scheduler.turn()
        self._scheduler.fail_all(EngineClosed("The engine was shut down."))

    def _wait_for_work(self) -> bool:
        with self._scheduler.lock:
            while not (self._closed or self._scheduler.has_work()):
                self._scheduler.lock.wait(self._scheduler.patience())
            return not self._closed
