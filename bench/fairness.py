"""Beside a key that floods: how long another key waits for its first token, against its wait alone.

The product's own processes, on a database of their own, each in a session and of a weight as
`make demo` starts them: web, relay, a generate worker with one base. That is the random one of 34
million parameters of `bench.serving`, or with `--base starter` the one that ships, whose answers
cost more to take in and to charge for than to compute. One key keeps 100 streams asked (64 of a
person are let in, the rest are refused and ask again); another person's key asks one after the
other. Both are measured in turn.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bench import house, report
from bench.serving.product import SLUG
from bench.serving.product import base as register
from bench.serving.shape import make_base
from config.embedded import redis as embedded_redis
from config.embedded.paths import REPOSITORY, free_port
from config.embedded.supervisor import let_others_first
from config.embedded.temporary import temporary_folder
from config.embedded.workers import POOLED, web, worker

STARTER = "starter"
PATH = "/v1/completions"
FLOOD = 100
Body = Callable[..., dict]
WARM_SECONDS = 3.0
WARM_CONNECTIONS = 20


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--asked", type=int, default=20, help="requests of the other key a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flood-tokens", type=int, default=128)
    parser.add_argument("--base", choices=(SLUG, STARTER), default=SLUG)
    options = parser.parse_args()
    result = report.Report("fairness", options)
    body = partial(_body, options.base)
    alone: list[float] = []
    beside: list[float] = []
    answered = 0
    with temporary_folder() as folder, _product(folder, options.base) as (address, keys):
        for _ in range(WARM_CONNECTIONS):  # each of the web's processes takes some of them
            _first_tokens(address, keys[1], 1, body)
        for _ in range(options.rounds):
            alone += _first_tokens(address, keys[1], options.asked, body)
            with _flooded(address, keys[0], partial(body, tokens=options.flood_tokens)) as count:
                time.sleep(WARM_SECONDS)
                beside += _first_tokens(address, keys[1], options.asked, body)
            answered += count.value
            time.sleep(WARM_SECONDS)
    ratio = _quantile(beside, 0.95) / _quantile(alone, 0.95)
    for name, found in (("alone", alone), ("beside a flood", beside)):
        result.add(f"first token {name}, half", _quantile(found, 0.5) * 1e3, "ms")
        result.add(f"first token {name}, 95 %", _quantile(found, 0.95) * 1e3, "ms")
    result.add("the flood's answers", answered, "answers")
    result.add("95 % beside / 95 % alone", ratio, "x", at_most=2.0)
    return result.finish()


def _first_tokens(address: str, key: str, count: int, body: Body) -> list[float]:
    """Seconds to the first text of each of `count` streams, one after the other."""
    found = []
    with httpx.Client(base_url=address, headers=_bearer(key), timeout=60) as client:
        for number in range(count):
            began = time.perf_counter()
            with client.stream("POST", PATH, json=body(f"q{number}", tokens=8)) as one:
                is_first = True
                for line in one.iter_lines():
                    if is_first and line.startswith("data: {") and _text(line):
                        found.append(time.perf_counter() - began)
                        is_first = False
    return found


@contextmanager
def _flooded(address: str, key: str, body: Body) -> Iterator[Any]:
    """FLOOD streams are asked in a process of their own for as long as the block runs."""
    context = multiprocessing.get_context("spawn")
    count = context.Value("i", 0)
    flood = context.Process(target=_flood, args=(address, key, body, count), daemon=True)
    flood.start()
    try:
        yield count
        if not flood.is_alive():
            raise RuntimeError("The flood broke off, so what was measured beside it says nothing.")
    finally:
        flood.terminate()
        flood.join()


def _flood(address: str, key: str, body: Body, count) -> None:
    """Asks by hand and looks for the end alone: what a client works at would slow the server down,
    with which it shares the machine, and be taken for the server's own slowness.
    """
    host, port = address.removeprefix("http://").split(":")

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        for turn in itertools.count():
            asked = json.dumps(body(f"flood {number} {turn}")).encode()
            head = (
                f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\n"
                f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(asked)}\r\n\r\n"
            )
            writer.write(head.encode() + asked)
            told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            status, headers = (
                told.split(None, 2)[1],
                dict(line.split(": ", 1) for line in told.split("\r\n")[1:] if ": " in line),
            )
            if "content-length" in headers:
                await reader.readexactly(int(headers["content-length"]))
            else:
                await reader.readuntil(b"\r\n0\r\n\r\n")
            if status == "429":
                writer.close()  # the server closes one that idles for as long
                await asyncio.sleep(float(headers["retry-after"]))
                reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
            elif status == "200":
                count.value += 1
            else:
                raise RuntimeError(told)

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(FLOOD):
                group.create_task(one(number))

    asyncio.run(all_of_them())


def _body(model: str, text: str, tokens: int) -> dict:
    return {
        "model": model,
        "prompt": f"What does a contributor do? {text}",
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
    }


def _text(line: str) -> bool:
    chunk = json.loads(line[6:])
    return bool(chunk.get("choices") and chunk["choices"][0]["text"])


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _quantile(found: list[float], part: float) -> float:
    ordered = sorted(found)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@contextmanager
def _product(folder: Path, base: str) -> Iterator[tuple[str, list[str]]]:
    started: list[subprocess.Popen[bytes]] = []
    try:
        with house.durable(folder, connections=100):
            yield _start(folder, base, started)
            _stop(started)
    finally:
        _stop(started)


def _start(
    folder: Path, base: str, started: list[subprocess.Popen[bytes]]
) -> tuple[str, list[str]]:
    from django.conf import settings

    redis_port, web_port = free_port(6950), free_port(8950)
    environment = {
        **os.environ,
        "REDIS_URL": embedded_redis.url(redis_port),
        "DATA_DIR": str(settings.DATA_DIR),
        "OPENLEDGER_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "CHAIN_ENABLED": "0",
        "DATABASE_POOL": POOLED["web"],
        "KEY_REQUESTS_PER_MINUTE": "1000000",
        "KEY_TOKENS_PER_MINUTE": "1000000000",
    }

    def start(name: str, *command: str) -> int:
        with (folder / f"{name}.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    command,
                    cwd=REPOSITORY,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # as the supervisor does: Linux shares cores by session
                )
            )
        return started[-1].pid

    start("redis", *embedded_redis.command(folder, port=redis_port))
    embedded_redis.wait_until_ready(environment["REDIS_URL"])
    start("web", *web(host="127.0.0.1", port=web_port))
    start("relay", sys.executable, "manage.py", "relay")
    let_others_first(start("generate", *worker("g", f"generate.{base}", pool="threads", slots=20)))
    return f"http://127.0.0.1:{web_port}", _fill(folder, base)


def _stop(started: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(started):
        process.terminate()
    for process in started:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    started.clear()


def _fill(folder: Path, slug: str) -> list[str]:
    """Two people with money and a key each, and the base in service."""
    from django.utils import timezone

    from accounts import api_keys
    from accounts.models import User
    from accounts.workers import live_workers
    from modelfactory.services.bases import register_starter
    from serving.models import Deployment
    from serving.services.deployments import deploy
    from tests.ledger.books import OPEN, fund

    if slug == STARTER:
        base = register_starter(at=timezone.now())
    else:
        make_base(folder / "base")
        base = register(folder / "base")
    _wait_for(lambda: live_workers(queue=f"generate.{slug}", at=timezone.now()).exists())
    staff = User.objects.create_user("staff@bench.test", handle="staff", is_staff=True)
    secrets = []
    for name in ("flood", "other"):
        user = User.objects.create_user(f"{name}@bench.test", handle=name)
        fund(user, 1_000_000 * OPEN)
        _, secret = api_keys.create_key(
            user=user, name="bench", acting_user=user, at=timezone.now()
        )
        secrets.append(secret)
    deploy(base_model=base, acting_user=staff, at=timezone.now())
    _wait_for(lambda: Deployment.objects.filter(state="LIVE").exists())
    return secrets


def _wait_for(holds) -> None:
    until = time.monotonic() + 120
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError("The product did not start.")
        time.sleep(0.2)


if __name__ == "__main__":
    raise SystemExit(main())
