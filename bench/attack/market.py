"""What everybody earns of a model: copies out, trained, indexed, asked; the product's own parts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.influence import scores
from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.examples import IndexedExample
from attribution.influence.index import Index
from attribution.influence.model import AdaptedModel, adapt
from attribution.influence.scorer import Scorer
from attribution.influence.shares import WHOLE, shares
from bench.attack.copies import firsts
from bench.attribution import metrics, runs, task, training
from bench.attribution.displaced import around_steps
from datanets.ingest.folding import fold
from modelfactory.training.prompts import PromptTokenizer, render_example


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as an account commits it."""

    account: str
    question: str
    answer: str

    def payload(self) -> dict[str, list[dict[str, str]]]:
        return {
            "messages": [
                {"role": "user", "content": self.question},
                {"role": "assistant", "content": self.answer},
            ]
        }


@dataclass(frozen=True, slots=True)
class Earned:
    """`shares` (queries, accounts) of 1 for each answer; `kept` records were learnt from."""

    accounts: list[str]
    shares: NDArray[np.float64]
    kept: int

    def of(self, accounts: Sequence[str], queries: slice = slice(None)) -> float:
        """What the accounts earn of an answer together, on average."""
        chosen = [place for place, name in enumerate(self.accounts) if name in set(accounts)]
        return float(self.shares[queries][:, chosen].sum(axis=1).mean())


class Market:
    """One seed's trainings. What was trained on the same records is not trained again."""

    def __init__(self, tokenizer: PromptTokenizer, queries: Sequence[IndexedExample], seed: int):
        self.tokenizer, self.queries, self.seed = tokenizer, queries, seed
        self._known: dict[tuple[Entry, ...], Earned] = {}

    def earned(self, entries: Sequence[Entry], *, sees_copies: bool = True) -> Earned:
        """`entries` in the order in which they were committed; without `sees_copies` all are
        learnt from and each pays whoever brought it."""
        kept = list(entries)
        if sees_copies:
            first = firsts([fold(one.payload()) for one in entries])
            kept = [one for place, one in enumerate(entries) if first[place] == place]
        key = tuple(kept)
        if key not in self._known:
            records = self.examples(kept)
            model = self.trained(records)
            self._known[key] = self._ask(model, records)
        return self._known[key]

    def examples(self, entries: Sequence[Entry]) -> list[IndexedExample]:
        found = []
        for number, one in enumerate(entries):
            made = render_example(one.payload(), self.tokenizer, task.CUTOFF)
            name = f"{number:05}"
            if any(made.loss_mask[1:]):
                found.append(IndexedExample(name, one.account, made.input_ids, made.loss_mask))
        return found

    def trained(self, records: Sequence[IndexedExample]) -> AdaptedModel:
        return adapt(training.train(records, self.seed), device="cpu")

    def _ask(self, model: AdaptedModel, records: Sequence[IndexedExample]) -> Earned:
        with tempfile.TemporaryDirectory(prefix="bench-attack-") as folder:
            build_with(model, InfluenceConfig(), records, Path(folder))
            index = Index.open(folder)
            scorer = Scorer.of(index, model)
            accounts = list(index.manifest.group_ids)
            rows = []
            for asked in self.queries:
                query = scorer.query(asked.input_ids, asked.loss_mask)
                found = scores.group_scores(index.sums, query)
                rows.append(self._row(dict(zip(accounts, found, strict=True)), accounts))
        return Earned(accounts, np.array(rows), len(records))

    def earned_by_pairs(self, entries: Sequence[Entry], length: float) -> tuple[Earned, Earned]:
        """By first order alone, and with the second-order term of groups; all copies are learnt
        from.

        To second order leaving accounts S out does ``sum f_a + sum pairs_ab / 2`` to an answer's
        loss, the sums over S, with ``pairs_ab = u_a H u_b`` and ``u`` the accounts' steps
        (`bench/attribution/second_order.py`), each `length` times what (F + damping)^-1 asks for.
        An account's value in that game is Shapley's: ``f_a + sum_b pairs_ab / 2`` over all.
        """
        records = self.examples(entries)
        model = self.trained(records)
        accounts = sorted({record.group_id for record in records})
        members = np.array([[r.group_id == a for r in records] for a in accounts], dtype=float)
        config = InfluenceConfig()
        with tempfile.TemporaryDirectory(prefix="bench-attack-") as folder:
            build_with(model, config, records, Path(folder))
            scorer = Scorer.of(Index.open(folder), model)
            kept = runs.whitened(scorer, records, config)
            asked = runs.whitened(scorer, self.queries, config)
            steps = length * (members @ kept) / len(records)
            whole = steps.sum(axis=0, keepdims=True)
            every = np.concatenate([steps, steps + whole, whole]).astype(np.float32)
            bent = 2 * around_steps(scorer, self.queries, every).gauss_newton
        count = len(accounts)
        pairs = (bent[:, count : 2 * count] - bent[:, :count] - bent[:, 2 * count :]) / 2
        first = asked @ steps.T
        return (
            Earned(accounts, metrics.shares(first.astype(np.float64)), len(records)),
            Earned(accounts, metrics.shares(first + pairs / 2), len(records)),
        )

    def _row(self, influence: Mapping[str, Any], accounts: Sequence[str]) -> list[float]:
        parts = shares({name: int(value) for name, value in influence.items()})
        return [parts.get(name, 0) / WHOLE for name in accounts]
