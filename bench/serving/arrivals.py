"""Requests that come when they come: thousands of registered adapters beside the base alone.

One trace of Poisson arrivals at 0.9 of what the base alone can do, played four times: on adapters
chosen by Zipf's law, and evenly, each after all rows on the base. What counts is tokens of requests
that had their first token within 2 s and 95 % of their gaps within twice the base's. Blobs are of
full size and distinct; those beyond the budget in memory are dropped and come back from the file
on the callers' threads, as in the product.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench import report
from serving.engine.row import Row
from serving.engine.scheduler import Scheduler
from serving.engine.store import AdapterStore
from serving.engine.types import EngineError, Request

if TYPE_CHECKING:
    from bench.serving.__main__ import House
    from serving.engine.native.backend import NativeBackend

FIRST_TOKEN = 2.0  # seconds
LOAD = 0.9
SLOTS = 32
CALLERS = 8  # threads that read adapters in
IDLE = 0.05  # seconds
MORE_THAN_IT_CAN = 3_000  # tokens a second


@dataclass(slots=True)
class Asked:
    at: float
    prompt: tuple[int, ...]
    tokens: int
    times: list[float] = field(default_factory=list)


def measure(result: report.Report, house: House, registered: int, seconds: float) -> None:
    names = _register(house, registered)
    backend = house.backend("traced", slots=SLOTS)
    capacity = _capacity(house, backend, min(seconds, 10.0))
    result.add("base alone, always full", capacity, "tokens/s")
    random = np.random.default_rng(5)
    trace = list(_trace(random, capacity * LOAD, seconds))
    zipf = np.minimum(random.zipf(1.1, len(trace)), registered) - 1
    even = random.integers(0, registered, len(trace))
    note = f"{len(trace)} requests in {seconds:.0f} s"
    for kind, chosen in (("Zipf", zipf), ("uniform", even)):
        base = _play(house, backend, trace, None)
        limit = 2 * float(np.quantile(_gaps(base), 0.95))
        good = _good(base, limit)
        result.add(f"base beside {kind}: tokens in time", good / seconds, "tokens/s", note=note)
        played = _play(house, backend, trace, [names[place] for place in chosen])
        name = f"{registered:,} registered, {kind} / base"
        result.add(name, _good(played, limit) / good, "x", at_least=0.75)


def _register(house: House, count: int) -> list[str]:
    """Blobs of full size, distinct by their number in the header's spare room."""
    chosen = house.grow(8)
    maker = house.backend("swapped")
    for name, source in chosen:
        maker.load(name, source)
    held = AdapterStore(house.folder / "swapped")
    blobs = [bytes(held.view(name)) for name, _ in chosen]
    names: list[str] = []

    def made() -> Iterator[tuple[str, bytes]]:
        for number in range(count):
            blob = blobs[number % len(blobs)]
            blob = blob[:32] + number.to_bytes(8, "little") + blob[40:]
            names.append(hashlib.sha256(str(number).encode()).hexdigest())
            yield names[-1], blob

    AdapterStore(house.folder / "traced").add_all(made())
    return names


def _trace(random: np.random.Generator, rate: float, seconds: float) -> Iterator[Asked]:
    at, mean = 0.0, 40.0
    while True:
        at += float(random.exponential(mean / rate))
        if at >= seconds:
            return
        prompt = random.integers(0, 8192, int(random.integers(16, 65)))
        yield Asked(at, tuple(prompt.tolist()), int(random.integers(16, 65)))


def _capacity(house: House, backend: NativeBackend, seconds: float) -> float:
    """Tokens a second of the base where somebody always waits."""
    random = np.random.default_rng(6)
    trace = list(_trace(random, MORE_THAN_IT_CAN, seconds))
    played = _play(house, backend, trace, None, seconds)
    return sum(len(one.times) for one in played) / seconds


def _play(
    house: House,
    backend: NativeBackend,
    trace: list[Asked],
    adapters: list[str] | None,
    until: float = 1e9,
) -> list[Asked]:
    scheduler = Scheduler(backend, house.base, SLOTS)
    played = [Asked(one.at, one.prompt, one.tokens) for one in trace]
    rows: dict[int, Row] = {}
    came = 0

    def ask(place: int) -> None:
        name = adapters[place] if adapters else None
        row = _row(house, backend, played[place], str(place), name)
        with scheduler.lock:
            rows[place] = row
            scheduler.waiting.push(row)
            scheduler.lock.notify()

    began = time.perf_counter()
    with torch.inference_mode(), ThreadPoolExecutor(CALLERS) as callers:
        asked: list[Future[None]] = []
        while came < len(played) or rows or not all(one.done() for one in asked):
            now = time.perf_counter() - began
            if now > until:
                break
            while came < len(played) and played[came].at <= now:
                asked.append(callers.submit(ask, came))
                came += 1
            with scheduler.lock:
                if not scheduler.has_work():
                    following = played[came].at - now if came < len(played) else IDLE
                    scheduler.lock.wait(max(min(following, IDLE), 0))
                    continue
            scheduler.turn()
            _collect(rows, played, time.perf_counter() - began)
    for one in asked:
        one.result()
    scheduler.fail_all(EngineError("The trace ended."))
    sys.stderr.write(f"  {came} of {len(played)} requests, {time.perf_counter() - began:.0f} s\n")
    return played


def _row(house: House, backend: NativeBackend, asked: Asked, key: str, name: str | None) -> Row:
    request = Request(key, asked.prompt, name, asked.tokens, 0.0, ignore_end=True)
    adapter = backend.adapter(name) if name else None
    return Row(request, adapter, house.base.vocabulary, house.base.context)


def _collect(rows: dict[int, Row], played: list[Asked], now: float) -> None:
    for place, row in list(rows.items()):
        while not row.out.empty():
            token = row.out.get()
            if isinstance(token, EngineError):
                raise token
            if token is None:  # the step of the first token begins
                continue
            played[place].times.append(now)
            if token.finish_reason is not None:
                rows.pop(place, None)


def _gaps(played: list[Asked]) -> list[float]:
    return [gap for one in played for gap in np.diff(one.times).tolist()]


def _good(played: list[Asked], limit: float) -> int:
    return sum(
        len(one.times)
        for one in played
        if one.times
        and one.times[0] - one.at <= FIRST_TOKEN
        and float(np.quantile(np.diff(one.times), 0.95)) <= limit
    )
