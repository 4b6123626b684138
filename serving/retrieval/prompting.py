"""Records in a prompt: how many tokens they may take, and the question with them in front.

The price that is held covers the most that they may take; what is charged is what was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from governance.selectors import governed
from modelfactory.models import BaseModel
from modelfactory.training.prompts import PromptTokenizer
from serving.errors import Refusal
from serving.limits import RETRIEVAL_FRACTION, RETRIEVAL_TOKENS, RETRIEVED_RECORDS
from serving.models import CompletionKind, Deployment, RetrievalState
from serving.prompts import Prompt, prepare, tokenizer_of
from serving.questions import Question

INTRODUCTION = "Records that may help, to be cited as [number]:"
# Of a record, shortened: what says less than this is left out.
FEWEST_TOKENS = 8


def budget_of(deployment: Deployment, question: Question, room: int, max_tokens: int | None) -> int:
    """Tokens that records may take; 0 where the deployment has none or the question no place.

    `room` is what the context has left after the prompt. A question with tools or token ids is
    left as it is: records can only be put into words.
    """
    index = getattr(deployment, "retrieval", None)
    if index is None or index.state != RetrievalState.READY or not words_of(question):
        return 0
    most = min(RETRIEVAL_TOKENS, deployment.base_model.context_length // RETRIEVAL_FRACTION)
    # Half of what is left stays for the answer where the asker did not say how long it may be.
    return max(0, min(most, room // 2 if max_tokens is None else room - max_tokens))


def terms_of(deployment: Deployment) -> dict[str, Any]:
    """What retrieval costs at most and pays, for a page: tokens, wei and percent."""
    most = min(RETRIEVAL_TOKENS, deployment.base_model.context_length // RETRIEVAL_FRACTION)
    return {
        "retrieved_records": RETRIEVED_RECORDS,
        "retrieval_tokens": most,
        "retrieval_price": most * deployment.input_price,
        "reward_percent": f"{governed('retrieval.reward_bps') / 100:g}",
    }


def words_of(question: Question) -> str:
    """The text that is looked up: the last message of the asker, or the whole text."""
    if question.tools or question.token_ids is not None:
        return ""
    if question.kind != CompletionKind.CHAT:
        return question.text
    last = question.messages[-1] if question.messages else {}
    content = last.get("content")
    return content if last.get("role") == "user" and isinstance(content, str) else ""


def with_records(
    question: Question, texts: Sequence[str], base: BaseModel, *, most: int
) -> tuple[Prompt, int] | None:
    """The prompt with as many of `texts` as fit in `most` tokens, and how many those are.

    Each is shortened to its part of them. None where not even the first one fits.
    """
    tokenizer = tokenizer_of(base)
    for count in range(len(texts), 0, -1):
        each = most // count
        while each >= FEWEST_TOKENS:
            shortened = [_shortened(text, each, tokenizer) for text in texts[:count]]
            try:
                prompt = prepare(_put(question, shortened), base)
            except Refusal:
                prompt = None
            if prompt is not None and len(prompt.ids) <= most:
                return prompt, count
            each = each * 3 // 4
    return None


def _shortened(text: str, tokens: int, tokenizer: PromptTokenizer) -> str:
    ids = tokenizer.encode(text)
    return text if len(ids) <= tokens else tokenizer.decode(ids[:tokens]).rstrip("\ufffd") + "…"


def _put(question: Question, texts: Sequence[str]) -> Question:
    lines = "\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
    head = f"{INTRODUCTION}\n{lines}\n\n"
    if question.kind != CompletionKind.CHAT:
        return replace(question, text=head + question.text)
    *before, last = question.messages
    return replace(question, messages=[*before, {**last, "content": head + last["content"]}])
