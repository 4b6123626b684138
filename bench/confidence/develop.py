"""How the rule of clear influence was chosen: `python -m bench.confidence --develop`.

On adapters, texts and questions of which no figure is reported: SEEDS train adapters of their own;
asked are the 160 texts that `--fresh` leaves out, the models' own answers to the first 40, and the
first 400 unrelated questions. Every rule of GRID is fitted to the same scores. Of those that keep
the upper bound of wrong payments at 5 % the one is taken that pays most of the answers, of equal
ones the simplest; the bound is Clopper and Pearson's of one side at 95 %, with what a question
comes to on average over the adapters. Writes `develop.json`.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution import foreign
from attribution.influence import confidence
from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.examples import IndexedExample
from attribution.influence.index import Index
from attribution.influence.model import adapt
from attribution.influence.scorer import Scorer
from bench.attribution import task, training
from bench.confidence import fresh
from modelfactory.training.prompts import load_tokenizer

LOG = Path(__file__).with_name("develop.json")
SEEDS = (1001, 1002, 1003)
MOST = 0.05  # of unrelated questions that are paid for, upper bound
DIRECTIONS, TOPS = (0, 4, 8, 16, 32), (10, 20)
LEVELS = (10_000, 20_000, 30_000, 40_000, 50_000)
Whole = NDArray[np.int64]


def main(medquad: Path, unrelated: Path) -> int:
    made = task.load(medquad)
    tokenizer = load_tokenizer(task.STARTER)
    texts = [one for turn in zip(*fresh.seen(made, tokenizer), strict=True) for one in turn]
    outside = fresh.plain(unrelated, tokenizer)[: fresh.SEEN_UNRELATED]
    null = foreign.examples(tokenizer, task.CUTOFF)
    lines: dict[tuple[int, int, int], list[dict[str, float]]] = {}
    for seed in SEEDS:
        network = training.train(made.records, seed)
        asked = [*texts, *fresh.answers(network, texts, seed)]
        model = adapt(network, device="cpu")
        with tempfile.TemporaryDirectory(prefix="bench-confidence-") as folder:
            build_with(model, InfluenceConfig(seed=seed), made.records, Path(folder))
            scorer = Scorer.of(Index.open(folder), model)
            of = {"foreign": null, "asked": asked, "outside": outside}
            found = {name: _per_record(scorer, examples) for name, examples in of.items()}
            rows = list(confidence.rows_by_group(scorer.index.manifest.counts).values())
        for rule in itertools.product(DIRECTIONS, TOPS, LEVELS):
            lines.setdefault(rule, []).append(_paid(rule, found, rows, len(texts)))
    log = [_line(rule, found, len(outside)) for rule, found in lines.items()]
    allowed = [line for line in log if line["bound"] <= MOST]
    best = max(allowed, key=lambda line: (line["paid"], -line["directions"], line["level_ppm"]))
    best["chosen"] = True
    LOG.write_text("[\n" + ",\n".join(f" {json.dumps(line)}" for line in log) + "\n]\n")
    sys.stdout.write(f"{json.dumps(best)}\n")
    return 0


def _per_record(scorer: Scorer, examples: list[IndexedExample]) -> Whole:
    found = []
    for one in examples:
        query = scorer.query(one.input_ids, one.loss_mask)
        scores = scorer.index.record_scores(query)
        found.append(confidence.per_record(scores, query, len(scorer.index.weights)))
    return np.array(found)


def _paid(
    rule: tuple[int, int, int], found: dict[str, Whole], rows: list[slice], texts: int
) -> dict[str, float]:
    """Which part of what was asked a null of this rule calls clear."""
    directions, top, level = rule
    null = confidence.fit_to(found["foreign"], rows, "", level, top, directions)
    clear = {
        name: np.array([confidence.heights(null, u, rows).max() > null.threshold for u in asked])
        for name, asked in found.items()
    }
    return {
        "unrelated": float(clear["outside"].mean()),
        "paid": float(clear["asked"].mean()),
        "texts": float(clear["asked"][:texts].mean()),
        "generated": float(clear["asked"][texts:].mean()),
    }


def _line(
    rule: tuple[int, int, int], found: list[dict[str, float]], questions: int
) -> dict[str, Any]:
    line: dict[str, Any] = dict(zip(("directions", "top", "level_ppm"), rule, strict=True))
    for name in found[0]:
        line[name] = round(sum(one[name] for one in found) / len(found), 4)
    line["of each"] = [[round(one[name], 3) for name in ("unrelated", "paid")] for one in found]
    wrong = math.ceil(sum(one["unrelated"] for one in found) / len(found) * questions - 1e-9)
    line["bound"] = round(upper_bound(wrong, questions), 4)
    return line


def upper_bound(found: int, of: int, error: float = 0.05) -> float:
    """The rate at which so few or fewer would be found with the probability ``error``."""
    low, high = found / of, 1.0
    for _ in range(50):
        rate = (low + high) / 2
        chance = sum(math.comb(of, n) * rate**n * (1 - rate) ** (of - n) for n in range(found + 1))
        low, high = (rate, high) if chance > error else (low, rate)
    return high
