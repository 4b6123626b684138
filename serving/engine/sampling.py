"""Choosing the next token from one row of logits."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING

import torch

from serving.engine.types import Logprob, Request

if TYPE_CHECKING:
    from serving.engine.constraint import Constraint

NEVER = float("-inf")


class Sampler:
    """One request's way of choosing, with a random stream of its own.

    The stream belongs to the request, so that the same seed gives the same tokens whoever
    shares the batch.
    """

    def __init__(self, request: Request, constraint: Constraint | None = None) -> None:
        self.request, self.constraint = request, constraint
        self._random: torch.Generator | None = None
        if request.temperature > 0.0:
            seed = request.seed
            self._random = torch.Generator(device="cpu")
            self._random.manual_seed(secrets.randbits(63) if seed is None else seed % 2**63)
        self._drawn: Counter[int] = Counter()
        self._bias: tuple[torch.Tensor, torch.Tensor] | None = None
        if request.logit_bias:
            ids = torch.tensor(list(request.logit_bias))
            self._bias = ids, torch.tensor(list(request.logit_bias.values()), dtype=torch.float32)
        self._prompt = sorted(set(request.input_ids)) if request.repetition_penalty != 1.0 else []

    def choose(self, logits: torch.Tensor) -> int:
        """Next token from float logits of shape (vocabulary,) on the CPU."""
        if self.request.shifts:
            logits = self._shifted(logits)
        if self.constraint is not None:
            logits = logits.masked_fill(~self.constraint.allowed(), NEVER)
        token = int(logits.argmax()) if self._random is None else self._draw(logits, self._random)
        if self.request.shifts:
            self._drawn[token] += 1
        if self.constraint is not None:
            self.constraint.advance(token)
        return token

    @property
    def complete(self) -> bool:
        """Whether the answer is whole, so that nothing may follow."""
        return self.constraint is not None and self.constraint.complete

    def _shifted(self, logits: torch.Tensor) -> torch.Tensor:
        request, logits = self.request, logits.clone()
        if self._bias is not None:
            logits[self._bias[0]] += self._bias[1]
        if self._prompt or (self._drawn and request.repetition_penalty != 1.0):
            seen = torch.tensor(sorted({*self._prompt, *self._drawn}))
            here = logits[seen]
            # Keskar and others, 2019: away from zero's other side for negative logits.
            logits[seen] = torch.where(
                here > 0, here / request.repetition_penalty, here * request.repetition_penalty
            )
        if self._drawn and (request.frequency_penalty or request.presence_penalty):
            ids = torch.tensor(list(self._drawn))
            counts = torch.tensor(list(self._drawn.values()), dtype=torch.float32)
            logits[ids] -= request.frequency_penalty * counts + request.presence_penalty
        return logits

    def _draw(self, logits: torch.Tensor, random: torch.Generator) -> int:
        request = self.request
        # The largest is subtracted first: a tiny temperature must not overflow into inf - inf.
        scaled = (logits - logits.max()) / request.temperature
        probabilities, order = scaled.softmax(-1).sort(descending=True, stable=True)
        if request.top_k:
            probabilities = probabilities[: request.top_k]
            probabilities = probabilities / probabilities.sum()
        cumulative = probabilities.cumsum(-1)
        # Smallest set whose probability reaches top_p; always at least the likeliest token.
        kept = int((cumulative - probabilities < request.top_p).sum().clamp(min=1))
        if request.min_p:
            likely = int((probabilities >= request.min_p * probabilities[0]).sum())
            kept = min(kept, max(likely, 1))
        drawn = torch.rand((), generator=random) * cumulative[kept - 1]
        place = int(torch.searchsorted(cumulative[:kept], drawn, right=True))
        return int(order[min(place, kept - 1)])


def logprob_of(logits: torch.Tensor, token: int, alternatives: int) -> Logprob:
    """The model's own probability of `token`, from float logits of shape (vocabulary,)."""
    logprobs = logits.log_softmax(-1)
    top: tuple[tuple[int, float], ...] = ()
    if alternatives:
        values, ids = logprobs.topk(min(alternatives, logits.shape[0]))
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Logprob(token, float(logprobs[token]), top)
