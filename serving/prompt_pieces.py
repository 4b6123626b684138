"""A question as its tokens, each with how much it mattered for the answer. Its payer sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attribution import selectors
from modelfactory.training.prompts import PromptError, PromptTokenizer, load_tokenizer
from serving.models import Completion

# Shades of a mark, each way; the page has a class for each.
SHADES = 4


@dataclass(frozen=True)
class Piece:
    """A token's text; `weight` in parts of a thousand, `shade` from -SHADES to SHADES."""

    text: str
    weight: int
    shade: int

    @property
    def is_for(self) -> bool:
        return self.weight > 0

    @property
    def strength(self) -> int:
        return abs(self.shade)


def pieces_of(completion: Completion) -> list[Piece]:
    """Empty while there is no receipt, and where the weights are not of this prompt."""
    weights = selectors.prompt_weights_of(completion.pk, completion.payer)
    if not weights or len(weights) != len(completion.prompt_ids):
        return []
    try:
        tokenizer = load_tokenizer(completion.deployment.base_model.path)
    except PromptError:
        return []
    return shaded(texts_of(tokenizer, completion.prompt_ids), weights)


def texts_of(tokenizer: PromptTokenizer, ids: Sequence[int]) -> list[str]:
    """Each token as text. Bytes of one character that are several tokens stand as a dot each."""
    read = tokenizer.tokenizer.decode
    return [read([one], skip_special_tokens=False).replace("\ufffd", "·") for one in ids]


def shaded(texts: Sequence[str], weights: Sequence[int]) -> list[Piece]:
    """The strongest token has the strongest shade."""
    largest = max(map(abs, weights), default=0) or 1
    return [
        Piece(text, weight, round(SHADES * weight / largest))
        for text, weight in zip(texts, weights, strict=True)
    ]
