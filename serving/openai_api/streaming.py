"""The answer as server-sent events, in the chunks of the OpenAI API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec
from django.http import StreamingHttpResponse

from serving.answering import answer_of
from serving.errors import Refusal
from serving.models import Completion, CompletionState
from serving.openai_api import shapes
from serving.streams import End, Piece

# The official client takes any named event for a chunk, so one is sent on request alone.
RECEIPTS_HEADER = "X-OpenLedger-Events"

Event = tuple[int, Piece | End]


class AnswerFailed(Refusal):
    """The worker could not answer; nothing was charged."""

    status = 500
    kind = "server_error"
    code = "completion_failed"


def check_answered(completion: Completion) -> None:
    if completion.state == CompletionState.FAILED:
        raise AnswerFailed(completion.failure_reason or "The model could not answer.")


class Streamed:
    """One request's answer. A client that goes away takes all its completions back."""

    def __init__(
        self,
        completions: Sequence[Completion],
        shape: shapes.Shape,
        *,
        with_usage: bool,
        with_receipts: bool,
    ) -> None:
        self._completions = list(completions)
        self._shape = shape
        self._with_usage = with_usage
        self._with_receipts = with_receipts
        self._begun: set[int] = set()

    async def response(self) -> StreamingHttpResponse:
        """Waits for the first token, so that what fails before it has an HTTP status of its own."""
        events = merged(self._completions)
        try:
            place, first = await anext(events)
            if isinstance(first, End):
                check_answered(first.completion)
        except BaseException:
            await events.aclose()  # type: ignore[attr-defined]
            raise
        response = StreamingHttpResponse(
            self._chunks((place, first), events), content_type="text/event-stream; charset=utf-8"
        )
        response["Cache-Control"] = "no-store"
        response["X-Accel-Buffering"] = "no"
        return response

    async def _chunks(self, first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        async with aclosing(rest):  # type: ignore[type-var]
            event: Event | None = first
            while event is not None:
                for chunk in self._of(*event):
                    yield chunk
                if self._failed(event[1]):
                    return
                event = await anext(rest, None)
        if self._with_usage:
            yield _data(self._shape.usage(self._completions))
        if self._with_receipts:
            for one in self._completions:
                yield b"event: receipt\n" + _data(shapes.bill(one))
        yield b"data: [DONE]\n\n"

    def _of(self, place: int, event: Piece | End) -> list[bytes]:
        """The chunks of one event; a choice begins with its role, or with the echoed prompt."""
        chunks = []
        if self._failed(event) and isinstance(event, End):
            reason = event.completion.failure_reason
            return [_data(shapes.error_body(AnswerFailed(reason)))]
        if place not in self._begun:
            self._begun.add(place)
            begin = self._shape.begin(place, self._completions[place])
            chunks = [_data(begin)] if begin is not None else []
        if isinstance(event, End):
            self._completions[place] = event.completion
            finish = self._shape.finish(place, event.completion, usage_follows=self._with_usage)
            return [*chunks, _data(finish)]
        return [*chunks, _data(self._shape.piece(place, event.text, event.logprobs))]

    def _failed(self, event: Piece | End) -> bool:
        return isinstance(event, End) and event.completion.state == CompletionState.FAILED


async def merged(completions: Sequence[Completion]) -> AsyncIterator[Event]:
    """The events of all, as they come, each with its choice's place.

    Closing it before the end cancels what still runs.
    """
    if len(completions) == 1:
        async with aclosing(answer_of(completions[0])) as events:  # type: ignore[type-var]
            async for event in events:
                yield 0, event
        return
    async with AsyncExitStack() as stack:
        running: dict[asyncio.Task[Any], tuple[int, Any]] = {}
        for place, one in enumerate(completions):
            events = await stack.enter_async_context(aclosing(answer_of(one)))  # type: ignore[type-var]
            running[asyncio.ensure_future(anext(events))] = place, events
        try:
            while running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    place, events = running.pop(task)
                    event = task.result()
                    yield place, event
                    if not isinstance(event, End):
                        running[asyncio.ensure_future(anext(events))] = place, events
        finally:
            await _stop(list(running))


async def _stop(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
