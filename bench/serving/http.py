"""What the product costs around the engine: tokens through HTTP and Celery against it alone.

All that a paid answer needs is on: key check, limits, committed hold, metering, capture, the
receipt's row, `fsync`. The engine's thread has one core, and everything else with the load's client
the other. Rounds of both take turns; a figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import report
from bench.serving.client import Answer, Stream
from bench.serving.product import STREAMS, Product, running
from config.embedded.paths import REPOSITORY

if TYPE_CHECKING:
    from bench.serving.__main__ import House

TOKENS = 256  # what an answer has where the request does not say
PROMPT = 64
ALONE_TOKENS = 8  # of the requests that measure the first token


def measure(result: report.Report, house: House, rounds: int, seconds: float) -> None:
    house.grow(STREAMS)
    folder = house.folder / "product"
    folder.mkdir()
    house.folder.chmod(0o755)
    with running(house, folder) as product, _direct(house.folder) as direct:
        try:
            _rates(result, product, direct, rounds, seconds)
            _firsts(result, product, direct, rounds)
        except Exception:
            for log in sorted(folder.glob("*.log")):
                sys.stderr.write(f"== {log.name}\n{log.read_text(errors='replace')[-3_000:]}\n")
            raise
        finally:
            assert direct.stdin is not None
            direct.stdin.close()
            direct.wait(60)


def _rates(
    result: report.Report, product: Product, direct: Any, rounds: int, seconds: float
) -> None:
    _ask(direct, STREAMS, TOKENS, 2.0)
    asyncio.run(_load(product, 4.0))
    alone, through = [], []
    for number in range(rounds):
        alone.append(_rate(_ask(direct, STREAMS, TOKENS, seconds)))
        through.append(asyncio.run(_load(product, seconds)))
        sys.stderr.write(f"  {number + 1}: {alone[-1]:.0f} alone, {through[-1]:.0f} through\n")
    result.add("32 streams: engine alone", statistics.median(alone), "tokens/s")
    result.add("32 streams: through HTTP and Celery", statistics.median(through), "tokens/s")
    ratios = [a / b for a, b in zip(through, alone, strict=True)]
    result.add("through / alone", statistics.median(ratios), "x", at_least=0.85)


def _firsts(result: report.Report, product: Product, direct: Any, rounds: int) -> None:
    added: list[float] = []
    for _ in range(rounds):
        told = statistics.median(_ask(direct, 1, ALONE_TOKENS, 2.0)["firsts"])
        seen = [one.first for one in asyncio.run(_one_by_one(product, 12))]
        added.append((statistics.median(seen) - told) * 1000)
    result.add(
        "1 stream: added to the first token, p50", statistics.median(added), "ms", at_most=25
    )


async def _load(product: Product, seconds: float) -> float:
    """Tokens a second of STREAMS streams that ask again for `seconds`, after all have begun.

    What an answer's usage says counts by the part of its text that came in those seconds: pieces
    hold any number of tokens.
    """
    streams = [Stream(product.port, product.secret) for _ in range(STREAMS)]
    for one in streams:
        await one.open()
    over = asyncio.Event()
    tasks = [
        asyncio.ensure_future(_again(one, product.models[place], place, over))
        for place, one in enumerate(streams)
    ]
    try:
        until = time.perf_counter() + 30
        while any(one.events < 2 for one in streams) and time.perf_counter() < until:
            await asyncio.sleep(0.05)
            _raise_of(tasks)
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        ended = time.perf_counter()
        over.set()
        answers = [one for each in await asyncio.gather(*tasks) for one in each]
        return sum(one.tokens_within(began, ended) for one in answers) / (ended - began)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in streams:
            await one.close()


async def _again(stream: Stream, model: str, place: int, over: asyncio.Event) -> list[Answer]:
    draw = random.Random(f"{time.time()} {place}")
    answers = []
    while not over.is_set():
        answers.append(await stream.ask(model, _prompt(draw), TOKENS))
    return answers


async def _one_by_one(product: Product, count: int) -> list[Answer]:
    stream = Stream(product.port, product.secret)
    await stream.open()
    draw = random.Random(time.time())
    found = [await stream.ask(product.models[0], _prompt(draw), ALONE_TOKENS) for _ in range(count)]
    await stream.close()
    return found


def _prompt(draw: random.Random) -> list[int]:
    return [draw.randrange(8192) for _ in range(PROMPT)]


def _raise_of(tasks: list[Any]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def _direct(folder: Path) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.serving.direct", str(folder), str(STREAMS)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(direct: Any, streams: int, tokens: int, seconds: float) -> dict[str, Any]:
    wish = {"streams": streams, "tokens": tokens, "prompt": PROMPT, "seconds": seconds}
    direct.stdin.write(json.dumps(wish) + "\n")
    direct.stdin.flush()
    told: dict[str, Any] = json.loads(direct.stdout.readline())
    return told


def _rate(told: dict[str, Any]) -> float:
    return float(told["tokens"] / told["seconds"])
