"""What attackers do with records: each makes everybody's records in the order of commits."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import Factors, whitened_gradients
from attribution.influence.examples import IndexedExample
from attribution.influence.index import Index
from bench.attack.edits import KINDS
from bench.attack.market import Entry, Market
from bench.attribution.task import Text

CANDIDATES = 256
BATCH = 16


# What changes the looks of a text alone, so that its bytes are others.
LOOKS = ("casing", "white space", "homoglyphs")


def copied(
    entry: Entry, account: str, draw: random.Random, kinds: Sequence[str] = tuple(KINDS)
) -> Entry:
    """A near-duplicate by a kind of edit that is drawn."""
    edit = KINDS[draw.choice(kinds)]
    return Entry(account, edit(entry.question, draw), edit(entry.answer, draw))


def own_copies(
    honest: Sequence[Entry], attacker: str, times: int, accounts: int, draw: random.Random,
    kinds: Sequence[str] = tuple(KINDS),
) -> list[Entry]:  # fmt: skip
    """Every record of the attacker's `times` times, over so many of its accounts."""
    found = list(honest)
    for one in _of(honest, attacker):
        for number in range(1, times):
            other = number % accounts
            found.append(copied(one, f"{attacker}#{other}" if other else attacker, draw, kinds))
    return found


def stolen(honest: Sequence[Entry], victim: str, thief: str, draw: random.Random) -> list[Entry]:
    """Every record of the victim's once more, by somebody who has none."""
    return [*honest, *(copied(one, thief, draw) for one in _of(honest, victim))]


def outliers(
    honest: Sequence[Entry], attacker: str, part: float, draw: random.Random
) -> list[Entry]:
    """A part of the attacker's records with answers that no model expects, for a large gradient:
    words of everybody's answers in no order."""
    words = " ".join(one.answer for one in honest).split()
    strange = [
        Entry(attacker, one.question, " ".join(draw.choices(words, k=40)))
        for one in _of(honest, attacker)
    ]
    return _instead(honest, attacker, strange, part)


def shadowed(
    honest: Sequence[Entry], attacker: str, part: float, rest: Sequence[Text], market: Market,
    asked: Sequence[IndexedExample], draw: random.Random,
) -> list[Entry]:  # fmt: skip
    """A part of the attacker's records for the strongest of many: it trains a shadow model on what
    is public, and takes those texts, and mixtures of its questions with them, that a shadow index
    credits most for the questions that it expects."""
    own = _of(honest, attacker)
    texts = draw.sample(list(rest), CANDIDATES)
    pool = [Entry(attacker, text.question, text.answer) for text in texts[: CANDIDATES // 2]]
    pool += [Entry(attacker, draw.choice(own).question, t.answer) for t in texts[CANDIDATES // 2 :]]
    strength = _strengths(market, market.examples(honest), market.examples(pool), asked)
    best = [pool[place] for place in np.argsort(-strength)]
    return _instead(honest, attacker, best, part)


def _strengths(
    market: Market,
    public: Sequence[IndexedExample],
    pool: Sequence[IndexedExample],
    asked: Sequence[IndexedExample],
) -> np.ndarray:
    """Influence of each of the pool on the asked, clipped as the index clips, on average."""
    model = market.trained(public)
    with tempfile.TemporaryDirectory(prefix="bench-attack-") as folder:
        build_with(model, InfluenceConfig(), public, Path(folder))
        index = Index.open(folder)
        clip = float(index.manifest.header["clip"])
        factors = Factors.load(Path(folder) / "factors.npz", model.device)

    def gradients(examples: Sequence[IndexedExample]) -> np.ndarray:
        parts = [
            whitened_gradients(model, factors, examples[at : at + BATCH]).numpy()
            for at in range(0, len(examples), BATCH)
        ]
        return np.concatenate(parts)

    queries = gradients(asked)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    records = gradients(pool)
    lengths = np.linalg.norm(records, axis=1)
    found: np.ndarray = (records @ queries.T).mean(axis=1) * np.minimum(1.0, clip / lengths)
    return found


def _of(entries: Sequence[Entry], account: str) -> list[Entry]:
    return [one for one in entries if one.account == account]


def _instead(
    honest: Sequence[Entry], attacker: str, better: Sequence[Entry], part: float
) -> list[Entry]:
    """As many records as before, the last of the attacker's replaced."""
    own = _of(honest, attacker)
    count = round(part * len(own))
    others = [one for one in honest if one.account != attacker]
    return [*others, *own[: len(own) - count], *better[:count]]
