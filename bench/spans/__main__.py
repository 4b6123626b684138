"""How fast a span index is built, how small it is, and how long an answer waits for its passages.

The text is made of words by Zipf's law, with phrases that records share, as tokens of a vocabulary
of 32,000; answers are put together of cuts from records and of words that nobody wrote together.
infini-gram (PyPI, where it is installed: `make bench` does that) sorts the same tokens with its own
indexer and answers the same questions with its own engine, in turn with ours; both must find the
same. The files are in the page cache; of each answer the best of three times counts.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.spans.build import RecordTokens, build
from attribution.spans.index import SpanIndex
from attribution.spans.search import SpanConfig, find
from bench import report

VOCABULARY = 32_000
RECORD_TOKENS = 200
PHRASE_TOKENS = 12
EVERYTHING = SpanConfig(min_tokens=8, max_spans=1_000_000, max_records=5)


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--answers", type=int, default=60)
    parser.add_argument("--answer-tokens", type=int, default=400)
    parser.add_argument("--removed", type=float, default=0.01, help="part of records taken out")
    options = parser.parse_args()
    result = report.Report("spans", options)
    records = make_records(options.tokens)
    answers = list(make_answers(records, options.answers, options.answer_tokens))
    with tempfile.TemporaryDirectory(prefix="bench-spans-") as name:
        ours = Ours(Path(name), records, options.removed)
        ours.tell(result)
        peer = Peer(Path(name), records) if find_spec("infini_gram") else None
        times = measure(ours, peer, answers)
        slowest, busy = max(times["ours"]), max(times["ours, CPU"])
        at_full_size = options.tokens >= 10_000_000
        result.add("query, median", 1e3 * statistics.median(times["ours"]), "ms")
        result.add("query, slowest", 1e3 * slowest, "ms", at_most=50 if at_full_size else None)
        result.add("query, slowest, CPU", 1e3 * busy, "ms", note="what a quiet machine would take")
        result.add(
            "query with records removed, slowest",
            1e3 * max(times["less"]),
            "ms",
            at_most=50 if at_full_size else None,
        )
        busy = max(times["less, CPU"])
        result.add("query with records removed, slowest, CPU", 1e3 * busy, "ms")
        if peer is not None:
            result.add("infini-gram: build", peer.seconds, "s")
            result.add("infini-gram: size", peer.size / options.tokens, "bytes/token")
            result.add("infini-gram: query, median", 1e3 * statistics.median(times["peer"]), "ms")
            wrong = differences(ours, peer, answers)
            result.add("answers with other spans than infini-gram", wrong, "answers", at_most=0)
    return result.finish()


class Ours:
    def __init__(self, folder: Path, records: NDArray[np.int64], removed: float) -> None:
        began = time.perf_counter()
        rows = (RecordTokens(str(row), ids) for row, ids in enumerate(records))
        build(folder / "ours", rows, vocabulary=VOCABULARY)
        self.seconds = time.perf_counter() - began
        self.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.perf_counter()
        self.index = SpanIndex.open(folder / "ours")
        self.opening = time.perf_counter() - began
        gone = [str(row) for row in range(0, len(records), round(1 / removed))]
        began = time.perf_counter()
        self.index.subtract(gone, folder / "less")
        self.removal = time.perf_counter() - began
        self.less = self.index.without(SpanIndex.open(folder / "less"))
        self.size = size_of(folder / "ours")
        self.tokens = self.index.token_count
        # What a query needs of it besides the mapped files.
        for one in (self.index, self.less):
            one.records, one.starts, one.unigrams  # noqa: B018

    def tell(self, result: report.Report) -> None:
        result.add("tokens", self.tokens, "tokens")
        result.add("build", self.seconds, "s")
        result.add("build, peak memory of the process", self.memory / 1e6, "MB")
        result.add("size", self.size / self.tokens, "bytes/token", at_most=7)
        result.add("open and check every file", self.opening, "s")
        result.add("take 1 % of the records out", self.removal, "s", note="without a rebuild")


class Peer:
    def __init__(self, folder: Path, records: NDArray[np.int64]) -> None:
        from bench.spans import peer

        began = time.perf_counter()
        peer.build(folder / "theirs", records)
        self.seconds = time.perf_counter() - began
        self.size = size_of(folder / "theirs")
        self.engine: Any = peer.engine(folder / "theirs")

    def find(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        found = self.engine.attribute(
            input_ids=ids, delim_ids=[], min_len=8, max_cnt=2**31 - 1, enforce_bow=False
        )
        return [(one["l"], one["r"]) for one in found["spans"]]


def measure(ours: Ours, peer: Peer | None, answers: Sequence[list[int]]) -> dict[str, list[float]]:
    """Seconds of each answer: the best of three, after one that brings its pages into memory."""
    asked: dict[str, Callable[[list[int]], object]] = {
        "ours": lambda ids: find(ours.index, ids),
        "less": lambda ids: find(ours.less, ids),
    }
    if peer is not None:
        asked["peer"] = peer.find
    times: dict[str, list[float]] = {name: [] for name in [*asked, "ours, CPU", "less, CPU"]}
    for ids in answers:
        for name, question in asked.items():
            question(ids)
            measured = [_seconds(question, ids) for _ in range(3)]
            times[name].append(min(wall for wall, _ in measured))
            # The peer works in threads of its own, so only ours is told by this clock.
            if name != "peer":
                times[f"{name}, CPU"].append(min(busy for _, busy in measured))
    return times


def _seconds(question: Callable[[list[int]], object], ids: list[int]) -> tuple[float, float]:
    """By the clock on the wall, and of this thread's processor time."""
    began, busy = time.perf_counter(), time.thread_time()
    question(ids)
    return time.perf_counter() - began, time.thread_time() - busy


def differences(ours: Ours, peer: Peer, answers: Sequence[list[int]]) -> int:
    return sum(
        [(one.start, one.end) for one in find(ours.index, ids, EVERYTHING)] != peer.find(ids)
        for ids in answers
    )


def make_records(tokens: int) -> NDArray[np.int64]:
    """(records, RECORD_TOKENS) token ids."""
    chance = np.random.default_rng(20261125)
    weights = 1 / np.arange(2, VOCABULARY)
    shape = (tokens // RECORD_TOKENS, RECORD_TOKENS)
    records = chance.choice(np.arange(2, VOCABULARY), size=shape, p=weights / weights.sum()).astype(
        np.int64
    )
    phrases = records[:500, :PHRASE_TOKENS].copy()
    # Every fourth record holds a phrase that others hold as well.
    holders = np.arange(500, shape[0], 4)
    places = chance.integers(0, RECORD_TOKENS - PHRASE_TOKENS, len(holders))
    which = chance.integers(0, len(phrases), len(holders))
    for row, place, phrase in zip(holders, places, which, strict=True):
        records[row, place : place + PHRASE_TOKENS] = phrases[phrase]
    return records


def make_answers(records: NDArray[np.int64], count: int, length: int) -> Iterator[list[int]]:
    """Cuts of 5 to 60 tokens from records, with words in between."""
    chance = np.random.default_rng(5)
    for _ in range(count):
        ids: list[int] = []
        while len(ids) < length:
            row = records[chance.integers(len(records))]
            begin = chance.integers(RECORD_TOKENS - 60)
            ids += [int(one) for one in row[begin : begin + chance.integers(5, 60)]]
            ids += [int(one) for one in chance.integers(2, VOCABULARY, chance.integers(1, 10))]
        yield ids[:length]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


if __name__ == "__main__":
    raise SystemExit(main())
