"""Choosing the next token from one row of logits."""

from __future__ import annotations

import secrets

import torch


class Sampler:
    """Temperature and nucleus sampling with a random stream of its own.

    The stream belongs to the request, so that the same seed gives the same tokens whoever
    shares the batch.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None) -> None:
        self.temperature = temperature
        self.top_p = top_p
        self._random = torch.Generator(device="cpu")
        self._random.manual_seed(secrets.randbits(63) if seed is None else seed % 2**63)

    def choose(self, logits: torch.Tensor) -> int:
        """Next token from float logits of shape (vocabulary,)."""
        if self.temperature == 0.0:
            return int(logits.argmax())
        scaled = logits.to(device="cpu", dtype=torch.float32)
        # The largest is subtracted first: a tiny temperature must not overflow into inf - inf.
        scaled = (scaled - scaled.max()) / self.temperature
        probabilities, order = scaled.softmax(-1).sort(descending=True, stable=True)
        cumulative = probabilities.cumsum(-1)
        # Smallest set whose probability reaches top_p; always at least the likeliest token.
        kept = int((cumulative - probabilities < self.top_p).sum().clamp(min=1))
        drawn = torch.rand((), generator=self._random) * cumulative[kept - 1]
        place = int(torch.searchsorted(cumulative[:kept], drawn, right=True))
        return int(order[min(place, kept - 1)])
