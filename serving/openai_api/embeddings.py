"""POST /v1/embeddings: vectors of texts from a base, in OpenAI's shape."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any
from uuid import UUID

import msgspec
from django.http import HttpResponse
from django.utils import timezone

from accounts.models import ApiKey
from serving import selectors, streams
from serving.answering import off_loop
from serving.errors import InvalidRequest
from serving.models import Embedding, EmbeddingState
from serving.openai_api import bodies, shapes
from serving.openai_api.streaming import AnswerFailed
from serving.services import embeddings as service

Texts = list[str | list[int]]


class Body(msgspec.Struct, kw_only=True):
    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None

    def texts(self) -> Texts:
        """Raises InvalidRequest."""
        if self.encoding_format not in (None, "float", "base64"):
            raise InvalidRequest("encoding_format is float or base64.", parameter="encoding_format")
        if self.dimensions is not None:
            raise InvalidRequest(
                "dimensions is not served: a vector is as long as the model is wide.",
                parameter="dimensions",
            )
        given: Any = [self.input] if isinstance(self.input, str) else self.input
        if given and all(isinstance(one, int) for one in given):
            given = [given]
        if any(isinstance(one, int) for one in given):
            raise InvalidRequest("A text is a string or a list of tokens.", parameter="input")
        return list(given)


async def start(raw: bytes, key: ApiKey) -> tuple[Embedding, Body]:
    """Count and hold. Raises a Refusal."""
    body = bodies.read(raw, Body)
    return await off_loop(_start, body, key), body


async def answer(made: Embedding, body: Body) -> HttpResponse:
    """Wait for the vectors and give them. Raises a Refusal; taken back where the client leaves."""
    try:
        await streams.wait_for_end(made.pk, lambda: off_loop(_is_final, made.pk))
    except asyncio.CancelledError:
        # Shielded: the client's going away cancels this very task.
        await asyncio.shield(asyncio.ensure_future(off_loop(_take_back, made.pk)))
        raise
    done = await off_loop(_fetch, made.pk)
    if done.state != EmbeddingState.SUCCEEDED:
        raise AnswerFailed(done.failure_reason or "The model could not answer.")
    response = shapes.json_response(_shape(done, body))
    response["X-Highest-Fee-Wei"] = str(done.fee)
    return response


def _start(body: Body, key: ApiKey) -> Embedding:
    deployment = selectors.usable_deployment(name=body.model, user=key.user)
    return service.start_embedding(
        deployment=deployment,
        texts=body.texts(),
        payer=key.user,
        api_key=key,
        acting_user=key.user,
        at=timezone.now(),
    )


def _is_final(pk: UUID) -> bool:
    """Ended, or so late that neither worker nor sweeper will come: nobody waits for ever."""
    found = Embedding.objects.get(pk=pk)
    return found.is_final or timezone.now() > found.created_at + service.GIVEN_UP


def _take_back(pk: UUID) -> None:
    service.take_back(embedding_id=pk, at=timezone.now())


def _fetch(pk: UUID) -> Embedding:
    found: Embedding = Embedding.objects.get(pk=pk)
    if found.is_final:
        service.fetched(embedding_id=pk)
    return found


def _shape(done: Embedding, body: Body) -> dict[str, Any]:
    size = done.dimensions * 4
    raw = bytes(done.vectors or b"")
    parts = [raw[place : place + size] for place in range(0, len(raw), size)]
    as_text = body.encoding_format == "base64"
    return {
        "object": "list",
        "model": body.model,
        "data": [
            {
                "object": "embedding",
                "index": place,
                "embedding": base64.b64encode(part).decode()
                if as_text
                else list(struct.unpack(f"<{done.dimensions}f", part)),
            }
            for place, part in enumerate(parts)
        ],
        "usage": {"prompt_tokens": done.prompt_tokens, "total_tokens": done.prompt_tokens},
        "openledger": {
            "embedding_id": str(done.pk),
            "entry_id": str(done.entry_id) if done.entry_id else None,
            "fee_wei": str(done.fee),
        },
    }
