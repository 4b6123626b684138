"""Who finds wrong answers: `python -m bench.attribution --mislabelled`.

A fifth of Task A's records, drawn by a seed, get the answer of another of them (a cycle among the
drawn ones), and the adapter is trained on all. A record is suspected the more, the less it helps
the held-out queries in sum; a method's figure is the area under the ROC curve, the chance that a
wrong record is suspected more than a right one. Nothing was searched for this task.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attribution.influence import baselines
from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.examples import IndexedExample
from attribution.influence.index import Index
from attribution.influence.model import AdaptedModel, adapt
from attribution.influence.scorer import Scorer
from bench import report
from bench.attribution import metrics, task, training, truth

PART = 0.2
SEED = 7
Doubles = NDArray[np.float64]


def main(result: report.Report, medquad: Path) -> int:
    made = task.load(medquad)
    records, wrong = mislabel(made.records)
    model = adapt(training.train(records, truth.FULL_SEED), device="cpu")
    for name, matrix in _methods(model, records, made.queries).items():
        sys.stderr.write(f"{name} ...\n")
        area = auc(-matrix().sum(axis=0), wrong)
        result.add(f"AUC of wrong answers, {name}", area, "")
    result.add("records with a wrong answer", int(wrong.sum()), f"of {len(records)}")
    return result.finish()


def mislabel(
    records: list[IndexedExample],
) -> tuple[list[IndexedExample], NDArray[np.bool_]]:
    """The records with a part of the answers handed on in a cycle, and which those are."""
    draw = np.random.default_rng(SEED)
    chosen = draw.permutation(len(records))[: round(PART * len(records))]
    found = list(records)
    for place, other in zip(chosen, np.roll(chosen, 1), strict=True):
        mine, theirs = records[place], records[other]
        prompt = list(mine.loss_mask).index(1)
        answer = list(theirs.input_ids)[list(theirs.loss_mask).index(1) :]
        ids = [*list(mine.input_ids)[:prompt], *answer][: task.CUTOFF]
        mask = [0] * prompt + [1] * (len(ids) - prompt)
        found[place] = IndexedExample(mine.record_id, mine.group_id, ids, mask, mine.content_hash)
    wrong = np.zeros(len(records), dtype=np.bool_)
    wrong[chosen] = True
    return found, wrong


def auc(suspicion: Doubles, wrong: NDArray[np.bool_]) -> float:
    """By the ranks of the wrong ones, equal values half."""
    ranks = metrics.ranks(suspicion[None, :])[0]
    count = int(wrong.sum())
    above = float(ranks[wrong].sum()) - count * (count + 1) / 2
    return above / (count * (len(wrong) - count))


def _methods(
    model: AdaptedModel, records: list[IndexedExample], queries: list[IndexedExample]
) -> dict[str, Callable[[], Doubles]]:
    def baseline(method: baselines.Method) -> Doubles:
        method.fit(records)
        return np.array([method.scores(query) for query in queries])

    return {
        "ours: sketches": lambda: _sketches(model, records, queries),
        "DataInf": lambda: baseline(baselines.DataInf(model)),
        "gradient dot": lambda: baseline(baselines.GradientDot(model)),
        "hidden-state cosine": lambda: baseline(baselines.HiddenStates(model)),
        "BM25": lambda: baseline(baselines.BM25()),
        "random": lambda: baseline(baselines.Random()),
    }


def _sketches(
    model: AdaptedModel, records: list[IndexedExample], queries: list[IndexedExample]
) -> Doubles:
    with tempfile.TemporaryDirectory(prefix="bench-mislabelled-") as folder:
        build_with(model, InfluenceConfig(), records, Path(folder))
        index = Index.open(folder)
        scorer = Scorer.of(index, model)
        found = []
        for query in queries:
            asked = scorer.query(query.input_ids, query.loss_mask)
            found.append(index.record_scores(asked) * asked.step)
        place = {entry.record_id: row for row, entry in enumerate(index.records)}
        order = [place[record.record_id] for record in records]
        matrix: Doubles = np.array(found, dtype=np.float64)[:, order]
    return matrix
