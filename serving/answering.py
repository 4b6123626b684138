"""The web's side of a running completion: starting it off the event loop, and watching the client.

Whoever asked and went away takes the request back: it is cancelled and charged for what it gave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.utils import timezone

from serving import streams
from serving.models import Completion
from serving.services.completions import cancel_completion
from serving.streams import End, Piece

Result = TypeVar("Result")


async def off_loop(call: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Run a synchronous call with a database connection that is given back afterwards."""

    def run() -> Result:
        try:
            return call(*args, **kwargs)
        finally:
            streams.close_idle_connection()

    return await sync_to_async(run)()


async def answer_of(completion: Completion) -> AsyncIterator[Piece | End]:
    """The answer as it comes; closing this before its end cancels the completion."""
    ended = False
    try:
        async with aclosing(streams.read(completion.pk)) as events:  # type: ignore[type-var]
            async for event in events:
                ended = isinstance(event, End)
                yield event
    finally:
        if not ended:
            # Shielded: the client's going away cancels this very task.
            await asyncio.shield(asyncio.ensure_future(off_loop(stop, completion)))


async def all_of(completions: Sequence[Completion]) -> list[Completion]:
    """Wait for all answers; where one's wait breaks off, the others are taken back."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(end_of(one)) for one in completions]
    return [task.result() for task in tasks]


async def end_of(completion: Completion) -> Completion:
    """Wait for the whole answer."""
    async with aclosing(answer_of(completion)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, End):
                return event.completion
    raise RuntimeError("A completion's events ended without an end.")


def stop(completion: Completion) -> None:
    """Take a request back, wherever it is."""
    cancel_completion(completion=completion, acting_user=None, at=timezone.now())
    streams.announce_cancel(completion.pk)
