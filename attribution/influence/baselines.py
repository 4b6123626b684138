"""Other ways to say which records shaped an answer, behind one interface.

They pay nobody. The benchmark measures the product's method against them, and a model without
gradients at hand (served by others, or no LoRA) can still be given BM25 or hidden states.

    method = GradientDot(model)
    method.fit(records)                 # keeps what it needs of every record
    method.scores(query)                # float64 (records,), positive where a record helped

A group's score is the sum over its records (`group_scores`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.influence.examples import IndexedExample
from attribution.influence.gradients import (
    Labels,
    Tokens,
    backward,
    batches,
    derived_seed,
    make_batch,
    per_example,
)
from attribution.influence.model import AdaptedModel, Block

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
BATCH_TOKENS = 1024


class Method(Protocol):
    """What is kept of the records is ``bytes_per_record`` after ``fit``."""

    def fit(self, records: Sequence[IndexedExample]) -> None: ...
    def scores(self, query: Tokens) -> Doubles: ...
    @property
    def bytes_per_record(self) -> int: ...


def group_scores(scores: Doubles, records: Sequence[IndexedExample]) -> dict[str, float]:
    """The sum over each group's records, by group."""
    totals = {record.group_id: 0.0 for record in sorted(records, key=lambda r: r.group_id)}
    for record, score in zip(records, scores, strict=True):
        totals[record.group_id] += float(score)
    return totals


def plain_gradients(
    model: AdaptedModel, examples: Sequence[Tokens], *, labels: Labels = "true", seed: int = 0
) -> Floats:
    """Gradients of the summed loss in the adapter's own coordinates, (examples, dimension); with
    ``labels="sampled"`` those of the true Fisher information, drawn by ``seed``."""
    out = np.empty((len(examples), model.dimension), dtype=np.float32)

    def into(rows: Tensor) -> Callable[[int, Block, Tensor, Tensor], None]:
        def sink(number: int, block: Block, activations: Tensor, gradients: Tensor) -> None:
            rows[:, block.span] = per_example(activations, gradients).flatten(1)

        return sink

    lengths = [len(example.input_ids) for example in examples]
    for places in batches(lengths, range(len(examples)), BATCH_TOKENS):
        rows = torch.zeros(len(places), model.dimension, device=model.device)
        made = make_batch([examples[place] for place in places], model.device)
        drawn = derived_seed(seed, labels, places[0])
        backward(model, made, into(rows), labels=labels, seed=drawn)
        out[places] = rows.cpu().numpy()
    return out


class GradientDot:
    """The dot product of two gradients: influence where the curvature is taken to be flat."""

    def __init__(self, model: AdaptedModel) -> None:
        self.model = model
        self.kept: Floats = np.zeros((0, model.dimension), dtype=np.float32)

    def fit(self, records: Sequence[IndexedExample]) -> None:
        self.kept = plain_gradients(self.model, records)

    def scores(self, query: Tokens) -> Doubles:
        found: Doubles = (self.kept @ plain_gradients(self.model, [query])[0]).astype(np.float64)
        return found

    @property
    def bytes_per_record(self) -> int:
        return 4 * self.model.dimension


class TracIn:
    """Gradient dot products summed over checkpoints, each times its learning rate
    (Pruthi et al. 2020, arXiv 2002.08484)."""

    def __init__(self, checkpoints: Sequence[tuple[AdaptedModel, float]]) -> None:
        self.parts = [(GradientDot(model), rate) for model, rate in checkpoints]

    def fit(self, records: Sequence[IndexedExample]) -> None:
        for part, _ in self.parts:
            part.fit(records)

    def scores(self, query: Tokens) -> Doubles:
        found: Doubles = np.sum([rate * part.scores(query) for part, rate in self.parts], axis=0)
        return found

    @property
    def bytes_per_record(self) -> int:
        return sum(part.bytes_per_record for part, _ in self.parts)


class BlockFisher:
    """Influence with the true Fisher information of whole blocks, no Kronecker factors assumed.

    Per block with ``m`` gradients under sampled labels, the rows of S, and damping ``l``, which is
    ``damping`` times the mean eigenvalue of ``F = S'S / m``:
    ``g_i (F + l)^-1 g_q = g_i (g_q - S' (m l + S S')^-1 S g_q) / l`` (Woodbury). It keeps every
    record's gradient and a sample's, so it is for the benchmark and for models of a few records.
    """

    def __init__(self, model: AdaptedModel, damping: float = 3.0, seed: int = 0) -> None:
        self.model, self.damping, self.seed = model, damping, seed
        self.kept: Floats = np.zeros((0, model.dimension), dtype=np.float32)
        self._sampled: Floats = self.kept
        self._inverses: list[tuple[Doubles, float]] = []

    def fit(self, records: Sequence[IndexedExample]) -> None:
        self.kept = plain_gradients(self.model, records)
        self._sampled = plain_gradients(self.model, records, labels="sampled", seed=self.seed)
        self._inverses = []
        count = len(records)
        for block in self.model.blocks:
            rows = self._sampled[:, block.span]
            gram = (rows @ rows.T).astype(np.float64)
            damping = self.damping * float(np.trace(gram)) / count / block.size
            inverse: Doubles = gram
            if damping:
                inverse = np.linalg.inv(gram + count * damping * np.eye(count)).astype(np.float64)
            self._inverses.append((inverse, damping))

    def scores(self, query: Tokens) -> Doubles:
        gradient = plain_gradients(self.model, [query])[0]
        found = np.zeros(len(self.kept))
        for block, (inverse, damping) in zip(self.model.blocks, self._inverses, strict=True):
            if damping == 0:  # no record moves this block
                continue
            rows, asked = self._sampled[:, block.span], gradient[block.span]
            known = (inverse @ (rows @ asked)).astype(np.float32) @ rows
            products = (self.kept[:, block.span] @ (asked - known)).astype(np.float64)
            found += products / damping
        return found

    @property
    def bytes_per_record(self) -> int:
        return 8 * self.model.dimension


class DataInf:
    """The closed form of Kwon et al. 2023 (arXiv 2310.00902): the mean of inverses in place of
    the inverse of the mean, block by block.

    Per block with gradients g_j and damping ``l``:
    ``(g_q.g_i - mean_j (g_q.g_j)(g_j.g_i) / (l + |g_j|^2)) / l``, where ``l`` is ``damping``
    times the mean square of a coordinate.
    """

    def __init__(self, model: AdaptedModel, damping: float = 0.1) -> None:
        self.model, self.damping = model, damping
        self.kept: Floats = np.zeros((0, model.dimension), dtype=np.float32)
        self._grams: list[Floats] = []

    def fit(self, records: Sequence[IndexedExample]) -> None:
        self.kept = plain_gradients(self.model, records)
        self._grams = []
        for block in self.model.blocks:
            rows = self.kept[:, block.span]
            self._grams.append(rows @ rows.T)

    def scores(self, query: Tokens) -> Doubles:
        gradient = plain_gradients(self.model, [query])[0]
        found = np.zeros(len(self.kept))
        for block, gram in zip(self.model.blocks, self._grams, strict=True):
            squares = np.diagonal(gram).astype(np.float64)
            damping = self.damping * float(squares.mean()) / block.size
            if damping == 0:  # no record moves this block
                continue
            products = (self.kept[:, block.span] @ gradient[block.span]).astype(np.float64)
            through = gram.astype(np.float64) @ (products / (damping + squares))
            found += (products - through / len(self.kept)) / damping
        return found

    @property
    def bytes_per_record(self) -> int:
        return 4 * self.model.dimension


class HiddenStates:
    """Cosine of the last hidden states, averaged over the answer's tokens. Needs no gradient."""

    def __init__(self, model: AdaptedModel) -> None:
        self.model = model
        self.kept: Floats = np.zeros((0, 0), dtype=np.float32)

    def fit(self, records: Sequence[IndexedExample]) -> None:
        self.kept = np.concatenate([self._of([record]) for record in records])

    def scores(self, query: Tokens) -> Doubles:
        found: Doubles = (self.kept @ self._of([query])[0]).astype(np.float64)
        return found

    @property
    def bytes_per_record(self) -> int:
        return int(4 * self.kept.shape[1])

    def _of(self, examples: Sequence[Tokens]) -> Floats:
        batch = make_batch(examples, self.model.device)
        with self.model.lock, torch.inference_mode():
            output: Any = self.model.network(
                input_ids=batch.ids,
                attention_mask=batch.present,
                use_cache=False,
                output_hidden_states=True,
            )
        states = output.hidden_states[-1].float()  # (batch, seq, hidden)
        mask = batch.targets.unsqueeze(2)
        means = (states * mask).sum(dim=1) / mask.sum(dim=1)
        found: Floats = torch.nn.functional.normalize(means, dim=1).cpu().numpy()
        return found


class BM25:
    """Words in common (Robertson and Zaragoza 2009), over token ids instead of words."""

    K1, B = 1.5, 0.75

    def __init__(self) -> None:
        self._counts: list[Counter[int]] = []
        self._lengths: Doubles = np.zeros(0)
        self._odds: dict[int, float] = {}

    def fit(self, records: Sequence[IndexedExample]) -> None:
        self._counts = [Counter(record.input_ids) for record in records]
        self._lengths = np.array([len(record.input_ids) for record in records], dtype=np.float64)
        seen = Counter(token for counts in self._counts for token in counts)
        self._odds = {
            token: math.log(1 + (len(records) - count + 0.5) / (count + 0.5))
            for token, count in seen.items()
        }

    def scores(self, query: Tokens) -> Doubles:
        found = np.zeros(len(self._counts))
        scale = self.K1 * (1 - self.B + self.B * self._lengths / self._lengths.mean())
        for token in set(query.input_ids):
            times = np.array([counts[token] for counts in self._counts], dtype=np.float64)
            found += self._odds.get(token, 0.0) * times * (self.K1 + 1) / (times + scale)
        return found

    @property
    def bytes_per_record(self) -> int:
        pairs = sum(len(counts) for counts in self._counts)
        return round(4 * pairs / max(1, len(self._counts)))  # a token id and a count of two bytes


class Random:
    """Numbers of a seed: what a method is worth that knows nothing."""

    def __init__(self, seed: int = 0) -> None:
        self._draw = np.random.default_rng(seed)
        self._count = 0

    def fit(self, records: Sequence[IndexedExample]) -> None:
        self._count = len(records)

    def scores(self, query: Tokens) -> Doubles:
        return self._draw.standard_normal(self._count)

    @property
    def bytes_per_record(self) -> int:
        return 0
