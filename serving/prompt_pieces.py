"""A question as its tokens, each with how much it mattered for the answer. Its payer sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from attribution import selectors
from modelfactory.training.prompts import PromptError, PromptTokenizer, load_tokenizer
from serving.models import Completion

# Shades of a mark, each way; the page has a class for each.
SHADES = 4
# Bytes of a character in UTF-8, each of which may be a token.
LONGEST = 4


@dataclass(frozen=True)
class Piece:
    """The text of a token, or of those that are one character; `weight` in parts of a million,
    `shade` from -SHADES to SHADES."""

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
    runs = whole_characters(tokenizer, ids)
    read = tokenizer.tokenizer.decode
    return shaded(
        [read(run, skip_special_tokens=False) for run in runs],
        [sum(weights[place] for place in places) for places in _places(runs)],
        [bool(tokenizer.decode(run).strip()) for run in runs],
    )


def whole_characters(tokenizer: PromptTokenizer, ids: Sequence[int]) -> list[list[int]]:
    """The tokens, those together that are the bytes of one character: apart they are no text."""
    runs: list[list[int]] = []
    open_run: list[int] = []
    for one in ids:
        open_run.append(one)
        text = tokenizer.tokenizer.decode(open_run, skip_special_tokens=False)
        # Four bytes are the most of a character; what is none then stays none.
        if not text.endswith("\ufffd") or len(open_run) == LONGEST:
            runs.append(open_run)
            open_run = []
    return [*runs, open_run] if open_run else runs


def _places(runs: Sequence[Sequence[int]]) -> list[range]:
    ends = list(accumulate(len(run) for run in runs))
    return [range(end - len(run), end) for run, end in zip(runs, ends, strict=True)]


def shaded(texts: Sequence[str], weights: Sequence[int], words: Sequence[bool]) -> list[Piece]:
    """The strongest word has the strongest shade. Markers, where the model gathers much of what it
    read, have none: they would leave the words pale."""
    largest = max((abs(one) for one, word in zip(weights, words, strict=True) if word), default=0)
    return [
        Piece(text, weight, round(SHADES * weight / largest) if word and largest else 0)
        for text, weight, word in zip(texts, weights, words, strict=True)
    ]
