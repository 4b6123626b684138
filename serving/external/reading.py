"""From a replica's deltas to our own tokens, and its usage checked against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelfactory.training.prompts import PromptTokenizer
from serving.external.client import Delta

FINISHES = {"stop": "stop", "length": "length", "tool_calls": "stop"}
TOLD_ID = "token_id:"
# By so many tokens two counts may differ before it is noted, or by this part.
TOLERANCE, TOLERANCE_PART = 2, 0.05


@dataclass
class Reading:
    """One answer as it grows. `most` tokens were held for; more are never counted."""

    tokenizer: PromptTokenizer
    most: int
    texts: list[str] = field(default_factory=list)
    told_ids: list[int] = field(default_factory=list)
    places: list[Any] = field(default_factory=list)
    finish_reason: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)

    def take(self, delta: Delta) -> list[Any]:
        """Note a delta; returns the places of its tokens' probabilities."""
        self.texts.append(delta.text)
        self.told_ids += delta.ids
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage
        told = places_of(delta.logprobs) if delta.logprobs else []
        self.places += told
        return told

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def has_begun(self) -> bool:
        return bool(self.told_ids or self.text)

    def ids(self) -> list[int]:
        """The tokens that are charged: those told, else the text's own, cut to what it reports.

        Where both counts are there the smaller one is charged. The token that ended the answer
        counts, as it does in this house's engine, where the report has room for it.
        """
        reported = self._reported("completion_tokens")
        if self.told_ids:
            found = list(self.told_ids)
        else:
            found = self.tokenizer.encode(self.text)
            end = self.tokenizer.special_id("eos_token")
            ended = self.finish_reason == "stop" and end is not None
            if ended and reported is not None and reported > len(found):
                found.append(end)  # type: ignore[arg-type]
        most = self.most if reported is None else min(self.most, reported)
        return found[:most] if most else found[:1]

    def differs(self, prompt_tokens: int) -> bool:
        """Whether it reports other counts than ours, by more than tokenisation explains."""
        read, written = self._reported("prompt_tokens"), self._reported("completion_tokens")
        if read is None or written is None:
            return True
        counted = len(self.told_ids) or len(self.tokenizer.encode(self.text))
        return _far(read, prompt_tokens) or _far(written, counted)

    @property
    def finish(self) -> str:
        return FINISHES.get(self.finish_reason, "stop")

    @property
    def cached_tokens(self) -> int:
        details = self.usage.get("prompt_tokens_details")
        found = details.get("cached_tokens") if isinstance(details, dict) else 0
        return found if isinstance(found, int) and 0 <= found < 2**31 else 0

    def _reported(self, name: str) -> int | None:
        found = self.usage.get(name)
        return found if isinstance(found, int) and found >= 0 else None


def places_of(told: Mapping[str, Any]) -> list[Any]:
    """Kept as `serving.logprobs` keeps them; tokens are told as "token_id:<number>"."""
    found = []
    tops = told.get("top_logprobs") or [None] * len(told.get("tokens", ()))
    values = told.get("token_logprobs", ())
    for token, value, top in zip(told.get("tokens", ()), values, tops, strict=False):
        ranked = sorted((top or {}).items(), key=lambda one: -one[1])
        found.append([_id(token), value, [[_id(other), least] for other, least in ranked]])
    return found


def _id(text: str) -> int:
    return int(text.removeprefix(TOLD_ID))


def _far(one: int, other: int) -> bool:
    return abs(one - other) > max(TOLERANCE, TOLERANCE_PART * other)
