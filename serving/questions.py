"""What is asked, and how the answer is to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.models import CompletionKind


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation, or a text (as text or as token ids)."""

    kind: CompletionKind
    messages: Sequence[dict[str, str]] = ()
    text: str = ""
    token_ids: Sequence[int] | None = None

    @classmethod
    def chat(cls, text: str) -> Question:
        """A conversation of one message."""
        return cls(CompletionKind.CHAT, messages=[{"role": "user", "content": text}])


@dataclass(frozen=True, slots=True)
class Sampling:
    """`max_tokens` None takes what the house thinks best; `temperature` 0 is greedy."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
