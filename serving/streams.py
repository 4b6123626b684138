"""Tokens on their way from the worker to whoever waits for them: a Redis stream per completion.

The stream is only the fast way. What is true stands in the database, so a reader that finds no
stream (the broker lost it, or it expired) takes the answer from there.

Entries: `text` (a piece of the answer) with its place `at`, and `end` as the last.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import redis
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from django.utils import timezone

from serving.following import Entry, following
from serving.limits import HOLD_SLACK
from serving.models import Completion, CompletionState
from serving.prompts import storable

logger = logging.getLogger(__name__)

KEPT_SECONDS = 900
# How long a reader waits for the stream before it asks the database how things stand.
PATIENCE_SECONDS = 2.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of the answer, with the probabilities of its tokens where they were asked for."""

    text: str
    logprobs: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """The completion as it ended, read from the database."""

    completion: Completion


def key_of(completion_id: UUID | str) -> str:
    return f"completion:{completion_id}"


def cancel_key_of(completion_id: UUID | str) -> str:
    return f"completion:{completion_id}:cancel"


@cache
def connection_of_this_process() -> redis.Redis:
    """Synchronous client with a pool of its own, for workers and for services' callers."""
    client: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, health_check_interval=30)
    return client


class Writer:
    """The worker's end of one stream. Where Redis is away the answer still reaches the database."""

    def __init__(self, completion_id: UUID | str) -> None:
        self._client = connection_of_this_process()
        self._key = key_of(completion_id)
        self._written = 0
        self._broken = False

    def begin(self) -> None:
        """Forget what an earlier attempt may have written; nobody was shown a token of it."""
        self._send(lambda pipe: pipe.delete(self._key))

    def text(self, text: str, logprob: Any = None) -> None:
        """Append a piece, with its place in the answer so that a reader sees a gap."""
        if not self._broken:
            told = {} if logprob is None else {"logprob": json.dumps(logprob)}
            self._add({"text": storable(text), "at": self._written} | told)
        self._written += len(text)

    def end(self) -> None:
        self._add({"end": 1})

    def _add(self, fields: dict[Any, Any]) -> None:
        def add(pipe: Any) -> None:
            pipe.xadd(self._key, fields)
            pipe.expire(self._key, KEPT_SECONDS)

        self._send(add)

    def _send(self, fill: Callable[[Any], Any]) -> None:
        try:
            with self._client.pipeline(transaction=False) as pipe:
                fill(pipe)
                pipe.execute()
        except redis.RedisError:
            logger.warning("the stream %s is broken", self._key, exc_info=True)
            self._broken = True


def announce_cancel(completion_id: UUID | str) -> None:
    """Tell the worker that runs it; the wish also stands in the database."""
    connection_of_this_process().set(cancel_key_of(completion_id), 1, ex=KEPT_SECONDS)


def which_are_cancelled(completion_ids: list[str]) -> list[str]:
    if not completion_ids:
        return []
    wishes = connection_of_this_process().mget([cancel_key_of(one) for one in completion_ids])
    return [one for one, wish in zip(completion_ids, wishes, strict=True) if wish is not None]


async def read(completion_id: UUID | str) -> AsyncIterator[Piece | End]:
    """Pieces of the answer as they come, then its end; not longer than its hold lasts.

    Cost: one query for the end, and one for each PATIENCE_SECONDS without a token.
    """
    shown = 0
    with following().follow(key_of(completion_id)) as follower:
        while True:
            entries = await follower.next(PATIENCE_SECONDS)
            ended = not entries or any(b"end" in fields for _, fields in entries)
            for piece in _pieces(entries, shown):
                shown += len(piece.text)
                yield piece
            if not ended:
                continue
            completion = await sync_to_async(_load)(completion_id)
            if not completion.is_final and timezone.now() > completion.deadline + HOLD_SLACK:
                # Neither worker nor sweeper came: nobody may wait for ever.
                completion.state = CompletionState.FAILED
                completion.failure_reason = "It was not answered in time. You are not charged."
            if completion.is_final:
                if len(completion.answer) > shown:
                    yield Piece(completion.answer[shown:])
                yield End(completion)
                return


async def wait_for_end(identifier: UUID | str, is_final: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a stream's end was written and the database says so too, or it alone does."""
    with following().follow(key_of(identifier)) as follower:
        while True:
            await follower.next(PATIENCE_SECONDS)
            if await is_final():
                return


def _pieces(entries: list[Entry], shown: int) -> list[Piece]:
    """What the entries add to the answer; those that came together are one piece.

    So a process that falls behind has less to do for each token. After a gap nothing more is taken
    from the stream; the rest comes at the end.
    """
    pieces: list[Piece] = []
    for _, fields in entries:
        if b"text" not in fields or int(fields[b"at"]) != shown:
            continue
        text, told = fields[b"text"].decode(), _told(fields)
        shown += len(text)
        if pieces and not told and not pieces[-1].logprobs:
            pieces[-1] = Piece(pieces[-1].text + text)
        else:
            pieces.append(Piece(text, told))
    return pieces


def _told(fields: dict[bytes, bytes]) -> tuple[Any, ...]:
    return (json.loads(fields[b"logprob"]),) if b"logprob" in fields else ()


def wait_for(completion_id: UUID | str, *, seconds: float) -> Completion:
    """Wait in this thread until the completion has ended; for commands and tests.

    Raises TimeoutError.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        completion = Completion.objects.select_related("deployment").get(pk=completion_id)
        if completion.is_final:
            return completion
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"Completion {completion_id} did not end within {seconds:.0f} s.")


def _load(completion_id: UUID | str) -> Completion:
    try:
        found: Completion = Completion.objects.select_related("deployment").get(pk=completion_id)
        return found
    finally:
        close_idle_connection()


def close_idle_connection() -> None:
    """Give this thread's database connection back while its request only waits for tokens."""
    if not connection.in_atomic_block:
        connection.close()
