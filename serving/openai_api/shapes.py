"""Answers and errors in the shapes of the OpenAI API."""

from __future__ import annotations

from typing import Any

import msgspec
from django.http import HttpResponse

from serving.errors import Refusal
from serving.limits import RETRY_AFTER_SECONDS
from serving.models import Completion, CompletionKind, Deployment

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
    """The words of one completion's answer: chat or text."""

    def __init__(self, completion: Completion, name: str) -> None:
        self._chat = completion.kind == CompletionKind.CHAT
        self._id = f"{'chatcmpl' if self._chat else 'cmpl'}-{completion.pk}"
        self._created = int(completion.created_at.timestamp())
        self._model = name

    def whole(self, completion: Completion) -> dict[str, Any]:
        if self._chat:
            content = {"role": "assistant", "content": completion.answer, "refusal": None}
            choice: dict[str, Any] = {"message": content}
        else:
            choice = {"text": completion.answer}
        finish = FINISH.get(completion.finish_reason, "stop")
        choice |= {"index": 0, "logprobs": None, "finish_reason": finish}
        kind = "chat.completion" if self._chat else "text_completion"
        return self._frame(kind, [choice]) | {
            "usage": usage(completion),
            "openledger": bill(completion),
        }

    def role(self) -> dict[str, Any] | None:
        """The first chunk of a chat; a text has none."""
        if not self._chat:
            return None
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None)

    def piece(self, text: str) -> dict[str, Any]:
        return self._chunk({"delta": {"content": text}} if self._chat else {"text": text}, None)

    def finish(self, completion: Completion, *, usage_follows: bool) -> dict[str, Any]:
        reason = FINISH.get(completion.finish_reason, "stop")
        chunk = self._chunk({"delta": {}} if self._chat else {"text": ""}, reason)
        chunk["openledger"] = bill(completion)
        if usage_follows:
            chunk["usage"] = None
        return chunk

    def usage(self, completion: Completion) -> dict[str, Any]:
        return self._frame(self._chunk_kind, []) | {"usage": usage(completion)}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _chunk(self, choice: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "logprobs": None, "finish_reason": finish, **choice}
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


def usage(completion: Completion) -> dict[str, int]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }


def bill(completion: Completion) -> dict[str, str]:
    """What the answer cost, and the id under which its receipt will be found, in some seconds."""
    return {
        "completion_id": str(completion.pk),
        "receipt_id": str(completion.pk),
        "fee_wei": str(completion.fee),
    }
