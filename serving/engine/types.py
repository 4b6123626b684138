"""What goes into the engine and what comes out of it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Finish(StrEnum):
    """Why a request ended; STOP and LENGTH are the words of the OpenAI API."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Request:
    """One inference.

    `adapter` is the name under which `Engine.ensure_adapter` loaded it, None asks the base.
    `temperature` 0 is greedy. Without a `seed` the engine draws one.
    `max_tokens` is cut to what fits into the context after the prompt.
    """

    request_id: str
    input_ids: tuple[int, ...]
    adapter: str | None = None
    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Token:
    """One step of an answer.

    `text` may be empty: a token can hold half a character, or text that may yet turn out to be
    a stop string. The last one has a `finish_reason`; its `id` is None where no token was drawn
    for it (cancelled).
    """

    id: int | None
    text: str
    finish_reason: Finish | None = None


class EngineError(Exception):
    """Something that the engine refuses or could not do, for one request alone."""


class BadRequest(EngineError):
    """The request itself cannot be served: empty, too long, or with impossible settings."""


class UnknownAdapter(EngineError):
    """The adapter is not loaded."""


class AdapterRejected(EngineError):
    """The adapter's files are not what they should be; the message says what."""


class EngineClosed(EngineError):
    """The engine was shut down while, or before, the request ran."""
