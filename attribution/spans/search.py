"""The passages of an answer that stand verbatim in records, as OLMoTrace looks for them.

For each token of the answer the longest run that begins there and stands in a record; of these the
ones that are not part of a longer one and long enough; of these the rarest, by how unlikely their
tokens are one by one in the records. Everything is an integer and ties go to the earlier passage,
so the same answer and index give the same spans anywhere.

It says where the words stand. It does not say that the model took them from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from attribution.spans.index import SpanIndex

METHOD, VERSION = "verbatim-spans", 1
# Rarity is counted in parts of a bit.
PARTS_OF_A_BIT = 1024


@dataclass(frozen=True, slots=True)
class SpanConfig:
    """What is shown of what is found."""

    min_tokens: int = field(default=8, metadata={"help": "Shorter passages are not counted."})
    max_spans: int = field(default=10, metadata={"help": "The rarest so many passages are kept."})
    max_records: int = field(default=5, metadata={"help": "Records named for each passage."})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``start`` to ``start + length`` of the answer stand in ``count`` places.

    ``rarity`` is in 1/1024 bit: how unlikely the tokens are, drawn one by one from the records.
    """

    start: int
    length: int
    count: int
    rarity: int
    records: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.start + self.length


def find(index: SpanIndex, ids: Sequence[int], config: SpanConfig | None = None) -> list[Span]:
    """The rarest passages of the answer ``ids`` with their records, by where they begin.

    Raises TokenError where an id is not in the vocabulary.
    """
    config = config or SpanConfig()
    answer, width = index.encode(ids), index.width
    found = [
        (start, length)
        for start, length in maximal_matches(index, answer)
        if length >= config.min_tokens
    ]
    rarest = sorted(found, key=lambda one: (-_rarity(index, ids, *one), one))[: config.max_spans]
    return [
        Span(
            start=start,
            length=length,
            count=index.count(pattern),
            rarity=_rarity(index, ids, start, length),
            records=tuple(index.records_with(pattern, config.max_records)),
        )
        for start, length in sorted(rarest)
        for pattern in [answer[start * width : (start + length) * width]]
    ]


def maximal_matches(index: SpanIndex, answer: bytes) -> list[tuple[int, int]]:
    """(start, length) of all runs that stand in a record and are part of no longer such run."""
    width = index.width
    found, reached = [], 0
    for start in range(len(answer) // width):
        # A run that ends where an earlier one does is part of it.
        wanted = answer[start * width : (reached + 1) * width]
        if reached > start and not index.has(wanted):
            continue
        length = index.longest(answer[start * width :])
        if length and start + length > reached:
            found.append((start, length))
            reached = start + length
    return found


def _rarity(index: SpanIndex, ids: Sequence[int], start: int, length: int) -> int:
    whole = math.log2(index.token_count)
    return sum(
        round(PARTS_OF_A_BIT * (whole - math.log2(int(index.unigrams[token]))))
        for token in ids[start : start + length]
    )
