"""From a request to the tokens of its prompt, in the web process, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelfactory.models import BaseModel
from modelfactory.training.prompts import (
    PromptError,
    PromptTokenizer,
    load_tokenizer,
    render_prompt,
)
from serving.errors import InvalidRequest, PromptTooLong
from serving.models import CompletionKind
from serving.questions import Question


@dataclass(frozen=True, slots=True)
class Prompt:
    """The question as the model reads it."""

    kind: CompletionKind
    messages: list[dict[str, Any]]
    text: str
    ids: list[int]


def tokenizer_of(base: BaseModel) -> PromptTokenizer:
    return load_tokenizer(base.folder)


def prepare(question: Question, base: BaseModel) -> Prompt:
    """Render and count. Raises InvalidRequest and PromptTooLong (no room for an answer)."""
    try:
        tokenizer = tokenizer_of(base)
        if question.kind == CompletionKind.CHAT:
            messages = [dict(message) for message in question.messages]
            prompt = Prompt(
                question.kind,
                messages,
                tokenizer.render(messages, for_answer=True, tools=question.tools),
                render_prompt(messages, tokenizer, question.tools),
            )
        else:
            prompt = _text_prompt(question, tokenizer)
    except PromptError as error:
        raise InvalidRequest(str(error), parameter="messages") from error
    if not prompt.ids:
        raise InvalidRequest("The prompt is empty.", parameter="prompt")
    if len(prompt.ids) >= base.context_length:
        raise PromptTooLong(
            f"The prompt has {len(prompt.ids)} tokens; this model reads {base.context_length} "
            "with the answer. Shorten it.",
            parameter="messages" if question.kind == CompletionKind.CHAT else "prompt",
        )
    return prompt


def storable(text: str) -> str:
    """What a model's tokens spell, as the database can hold it: as long, without U+0000."""
    return text.replace("\0", "\ufffd")


def _text_prompt(question: Question, tokenizer: PromptTokenizer) -> Prompt:
    if question.token_ids is not None:
        ids = list(question.token_ids)
        if any(not 0 <= token < tokenizer.vocabulary_size for token in ids):
            raise InvalidRequest(
                "The prompt holds a token that this model does not have.", parameter="prompt"
            )
        return Prompt(question.kind, [], storable(tokenizer.decode(ids)), ids)
    begin = tokenizer.special_id("bos_token")
    ids = ([] if begin is None else [begin]) + tokenizer.encode(question.text)
    if not question.text:
        raise InvalidRequest("The prompt is empty.", parameter="prompt")
    return Prompt(question.kind, [], question.text, ids)
