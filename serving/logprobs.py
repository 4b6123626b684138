"""Probabilities of tokens, from the engine through the database to the shapes of the OpenAI API.

A place is kept as [token, logprob, [[token, logprob], …]]: natural logarithms, the likeliest first.
"""

from __future__ import annotations

from typing import Any, Protocol

from modelfactory.training.prompts import PromptTokenizer


class Known(Protocol):
    """What the engine tells of one token."""

    @property
    def id(self) -> int: ...
    @property
    def logprob(self) -> float: ...
    @property
    def top(self) -> tuple[tuple[int, float], ...]: ...


def place(one: Known) -> list[Any]:
    return [one.id, round(one.logprob, 6), [[t, round(value, 6)] for t, value in one.top]]


def of_chat(places: list[Any], tokenizer: PromptTokenizer) -> dict[str, Any]:
    """`logprobs` of a choice of a chat."""
    return {
        "content": [
            _token(tokenizer, token, value)
            | {"top_logprobs": [_token(tokenizer, other, least) for other, least in top]}
            for token, value, top in places
        ],
        "refusal": None,
    }


def of_text(
    places: list[Any], tokenizer: PromptTokenizer, *, begins_at: int = 0, first: int | None = None
) -> dict[str, Any]:
    """`logprobs` of a choice of a text; `first` is a token that nothing stands before.

    `begins_at` is the first token's place in the text, in characters.
    """
    known: list[Any] = ([] if first is None else [[first, None, []]]) + list(places)
    tokens = [tokenizer.token_text(token) for token, _, _ in known]
    offsets, at = [], begins_at
    for text in tokens:
        offsets.append(at)
        at += len(text)
    return {
        "tokens": tokens,
        "token_logprobs": [value for _, value, _ in known],
        "top_logprobs": [_likeliest(tokenizer, top, value) for _, value, top in known],
        "text_offset": offsets,
    }


def _likeliest(
    tokenizer: PromptTokenizer, top: list[Any], value: float | None
) -> dict[str, float] | None:
    if value is None:
        return None
    return {tokenizer.token_text(token): least for token, least in top}


def _token(tokenizer: PromptTokenizer, token: int, value: float) -> dict[str, Any]:
    text = tokenizer.token_text(token)
    whole = "\N{REPLACEMENT CHARACTER}" not in text
    return {"token": text, "logprob": value, "bytes": list(text.encode()) if whole else None}
