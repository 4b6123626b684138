"""How well copies are told from honest records that look alike, on all of MedQuAD's questions."""

from __future__ import annotations

import itertools
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.attack.edits import KINDS
from bench.attribution.task import Text
from config.sample.docstrings import standard_library
from datanets.ingest import similar
from datanets.ingest.firsts import Standing, first_ones
from datanets.ingest.folding import Folded, fold
from datanets.ingest.prints import prints

AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Quality:
    """`recall` by kind of edit; `precision` of all pairs that name a copy; `merged` of the honest
    records alone: which part went to one of another subject."""

    recall: dict[str, float]
    precision: float
    merged: float
    repeats: int


def of_code() -> list[Text]:
    """Honest texts of one template that differ in an identifier: what functions of the standard
    library do, by their docstrings."""
    packages = sorted(
        name for name in sys.stdlib_module_names if not name.startswith(("_", "idlelib", "test"))
    )
    pairs = [pair for package in packages for pair in standard_library(package, 50)]
    return [Text(one.contributor, "code", one.question, one.answer, "") for one in pairs]


def near_pairs(folded: Sequence[Folded]) -> dict[int, set[int]]:
    """What says nearly the same among texts, both ways, as the product finds it."""
    buckets: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(prints(folded)):
        for band in one.bands:
            buckets[band].append(place)
    met = {pair for places in buckets.values() for pair in itertools.combinations(places, 2)}
    near: dict[int, set[int]] = defaultdict(set)
    for a, b in met:
        if similar.near(folded[a], folded[b]):
            near[a].add(b)
            near[b].add(a)
    return near


def firsts(folded: Sequence[Folded]) -> dict[int, int]:
    """The origin of each text, where they were committed in this order."""
    records = [Standing(place, 0, AT, AT) for place in range(len(folded))]
    return first_ones(records, near_pairs(folded))


def judge(texts: Sequence[Text], copies: int, seed: int) -> Quality:
    """`copies` of each kind, of texts drawn at random."""
    draw = random.Random(seed)
    honest = [fold(text.payload()) for text in texts]
    changed, source, kinds = [], [], []
    for kind, edit in KINDS.items():
        for place in draw.sample(range(len(texts)), copies):
            question, answer = texts[place].question, texts[place].answer
            turns = [("user", edit(question, draw)), ("assistant", edit(answer, draw))]
            payload = {"messages": [{"role": role, "content": said} for role, said in turns]}
            changed.append(fold(payload))
            source.append(place)
            kinds.append(kind)
    near = near_pairs([*honest, *changed])
    met: dict[str, int] = defaultdict(int)
    pairs = right = 0
    for number, (place, kind) in enumerate(zip(source, kinds, strict=True), len(honest)):
        met[kind] += place in near[number]
        for other in near[number]:
            known = other if other < len(honest) else source[other - len(honest)]
            pairs += 1
            right += known == place or same_subject(texts, known, place)
    alone = {place: {o for o in near[place] if o < len(honest)} for place in range(len(honest))}
    records = [Standing(place, 0, AT, AT) for place in range(len(honest))]
    joined = {p: first for p, first in first_ones(records, alone).items() if p != first}
    wrong = [p for p, first in joined.items() if not same_subject(texts, p, first)]
    return Quality(
        recall={kind: met[kind] / copies for kind in KINDS},
        precision=right / pairs if pairs else 0.0,
        merged=len(wrong) / len(texts),
        repeats=len(joined) - len(wrong),
    )


def same_subject(texts: Sequence[Text], a: int, b: int) -> bool:
    """Whether both ask the same; MedQuAD's sources overlap, so honest repeats exist."""
    return _letters(texts[a].question) == _letters(texts[b].question)


def _letters(text: str) -> str:
    return "".join(sign for sign in text.lower() if sign.isalnum())
