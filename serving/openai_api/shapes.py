"""Answers and errors in the shapes of the OpenAI API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from django.http import HttpResponse

from serving import logprobs
from serving.errors import Refusal
from serving.limits import RETRY_AFTER_SECONDS
from serving.models import Completion, CompletionKind, Deployment
from serving.prompts import tokenizer_of

# The API has no word for an answer that was cut short from outside.
FINISH = {"stop": "stop", "length": "length", "cancelled": "length"}


def json_response(value: Any, *, status: int = 200) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(value), status=status, content_type="application/json")


def refusal(error: Refusal) -> HttpResponse:
    response = json_response(error_body(error), status=error.status)
    if error.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if error.status == 429:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def error_body(error: Refusal) -> dict[str, Any]:
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "param": error.parameter,
            "code": error.code,
        }
    }


def model(deployment: Deployment, base: Deployment | None = None) -> dict[str, Any]:
    """One entry of /v1/models; an adapter names its base as `parent`."""
    parent = deployment.base_model.slug if deployment.model_id else None
    return {
        "id": deployment.name,
        "object": "model",
        "created": int(deployment.created_at.timestamp()),
        "owned_by": deployment.owner.handle if deployment.owner else "openledger",
        "parent": parent,
        "root": deployment.base_model.slug,
        "max_model_len": deployment.base_model.context_length,
        "pricing": {
            "input_wei_per_token": str(deployment.input_price),
            "output_wei_per_token": str(deployment.output_price),
        },
    }


class Shape:
    """The words of one request's answer: chat or text, one choice for each of its completions."""

    def __init__(self, completions: Sequence[Completion], name: str) -> None:
        first = completions[0]
        self._chat = first.kind == CompletionKind.CHAT
        self._id = f"{'chatcmpl' if self._chat else 'cmpl'}-{first.pk}"
        self._created = int(first.created_at.timestamp())
        self._model = name
        self._sampling = first.sampling
        self._tokenizer = tokenizer_of(first.deployment.base_model)

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        choices = [self._choice(place, one) for place, one in enumerate(completions)]
        kind = "chat.completion" if self._chat else "text_completion"
        bills = [bill(one) for one in completions]
        return self._frame(kind, choices) | {
            "usage": usage(completions),
            "openledger": _several(bills),
        }

    def begin(self, place: int, completion: Completion) -> dict[str, Any] | None:
        """The first chunk of a choice: the role in a chat, the prompt that is to be echoed."""
        if self._chat:
            return self._chunk(place, {"delta": {"role": "assistant", "content": ""}}, None)
        if not self._echoes:
            return None
        return self._chunk(place, {"text": completion.prompt}, None)

    def piece(self, place: int, text: str, told: Sequence[Any] = ()) -> dict[str, Any]:
        choice: dict[str, Any] = {"delta": {"content": text}} if self._chat else {"text": text}
        if told:
            choice["logprobs"] = self._logprobs(list(told))
        return self._chunk(place, choice, None)

    def finish(self, place: int, completion: Completion, *, usage_follows: bool) -> dict[str, Any]:
        reason = FINISH.get(completion.finish_reason, "stop")
        chunk = self._chunk(place, {"delta": {}} if self._chat else {"text": ""}, reason)
        chunk["openledger"] = bill(completion)
        if usage_follows:
            chunk["usage"] = None
        return chunk

    def usage(self, completions: Sequence[Completion]) -> dict[str, Any]:
        return self._frame(self._chunk_kind, []) | {"usage": usage(completions)}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    @property
    def _echoes(self) -> bool:
        return bool(self._sampling.get("echo"))

    def _choice(self, place: int, completion: Completion) -> dict[str, Any]:
        told = completion.logprobs or {}
        if self._chat:
            content = {"role": "assistant", "content": completion.answer, "refusal": None}
            choice: dict[str, Any] = {"message": content}
            known = self._logprobs(told["answer"]) if told else None
        elif self._echoes:
            choice = {"text": completion.prompt + completion.answer}
            places = [*told["prompt"], *told["answer"]] if told else []
            first = completion.prompt_ids[0]
            known = logprobs.of_text(places, self._tokenizer, first=first) if told else None
        else:
            choice = {"text": completion.answer}
            known = self._logprobs(told["answer"]) if told else None
        finish = FINISH.get(completion.finish_reason, "stop")
        return choice | {"index": place, "logprobs": known, "finish_reason": finish}

    def _logprobs(self, places: list[Any]) -> dict[str, Any]:
        of = logprobs.of_chat if self._chat else logprobs.of_text
        return of(places, self._tokenizer)

    def _chunk(self, place: int, choice: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": place, "logprobs": None, "finish_reason": finish, **choice}
        return self._frame(self._chunk_kind, [choice])

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": None,
            "choices": choices,
        }


def usage(completions: Sequence[Completion]) -> dict[str, Any]:
    """Tokens of the whole request; a prompt counts once, however many choices it has."""
    read, seen = 0, set()
    for one in completions:
        if (prompt := tuple(one.prompt_ids)) not in seen:
            seen.add(prompt)
            read += one.prompt_tokens
    written = sum(one.completion_tokens for one in completions)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": completions[0].cached_tokens},
    }


def _several(bills: list[dict[str, Any]]) -> dict[str, Any]:
    """The first choice's bill, with those of the others and the sum where there are others."""
    if len(bills) == 1:
        return dict(bills[0])
    whole = sum(int(one["fee_wei"]) for one in bills)
    return bills[0] | {"fee_wei": str(whole), "choices": bills}


def bill(completion: Completion) -> dict[str, Any]:
    """What the answer cost, and the id under which its receipt will be found, in some seconds.

    `adapters`, where several answered as one, are their weights and parts of what models earn.
    `retrieved`, where records were put into the prompt, are their ids: the first is cited as [1].
    """
    told: dict[str, Any] = {
        "completion_id": str(completion.pk),
        "receipt_id": str(completion.pk),
        "fee_wei": str(completion.fee),
    }
    if completion.merge:
        told["adapters"] = [
            {
                "model": one["name"],
                "weight": one["weight_ppm"] / 10**6,
                "share_ppb": one["share_ppb"],
            }
            for one in completion.merge["parents"]
        ]
    if completion.retrieval:
        told["retrieved"] = [one["record"] for one in completion.retrieval["records"]]
    return told
