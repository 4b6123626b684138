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
    """A token's text; `weight` in parts of a million, `shade` from -SHADES to SHADES."""

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
    ids = completion.prompt_ids
    return shaded(texts_of(tokenizer, ids), weights, words_of(tokenizer, ids))


def texts_of(tokenizer: PromptTokenizer, ids: Sequence[int]) -> list[str]:
    """Each token as text. Bytes of one character that are several tokens stand as a dot each."""
    read = tokenizer.tokenizer.decode
    return [read([one], skip_special_tokens=False).replace("\ufffd", "·") for one in ids]


def words_of(tokenizer: PromptTokenizer, ids: Sequence[int]) -> list[bool]:
    """Which tokens are more than a marker of the template or blanks."""
    return [bool(tokenizer.decode([one]).strip()) for one in ids]


def shaded(texts: Sequence[str], weights: Sequence[int], words: Sequence[bool]) -> list[Piece]:
    """The strongest word has the strongest shade. Markers, where the model gathers much of what it
    read, have none: they would leave the words pale."""
    largest = max((abs(one) for one, word in zip(weights, words, strict=True) if word), default=0)
    return [
        Piece(text, weight, round(SHADES * weight / largest) if word and largest else 0)
        for text, weight, word in zip(texts, weights, words, strict=True)
    ]
