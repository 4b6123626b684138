"""What is asked, and how the answer is to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.models import CompletionKind


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation, with the tools it may call, or a text (as text or as token ids)."""

    kind: CompletionKind
    messages: Sequence[dict[str, Any]] = ()
    tools: Sequence[dict[str, Any]] = ()
    text: str = ""
    token_ids: Sequence[int] | None = None

    @classmethod
    def chat(cls, text: str) -> Question:
        """A conversation of one message."""
        return cls(CompletionKind.CHAT, messages=[{"role": "user", "content": text}])


@dataclass(frozen=True, slots=True)
class Sampling:
    """`max_tokens` None takes what the house thinks best; `temperature` 0 is greedy.

    `logprobs` is how many likely tokens each place tells, None for no probabilities; `echo` repeats
    the prompt before the answer, with its probabilities where they are told. `json_schema` is the
    text of a schema that the answer is held to.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    echo: bool = False
    json_schema: str | None = None

    def to_json(self, max_tokens: int) -> dict[str, Any]:
        """As it is kept with the completion; `max_tokens` is what was held for."""
        return {
            "max_tokens": max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": list(self.stop),
            "top_k": self.top_k,
            "min_p": self.min_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "repetition_penalty": self.repetition_penalty,
            "logit_bias": {str(token): bias for token, bias in self.logit_bias.items()},
            "logprobs": self.logprobs,
            "echo": self.echo,
            "json_schema": self.json_schema,
        }
