"""What goes into the engine and what comes out of it. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Finish(StrEnum):
    """Why a request ended; STOP and LENGTH are the words of the OpenAI API."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


MAX_RANK = 256  # of an adapter
MAX_LOGPROBS = 20  # alternatives told for each token


@dataclass(frozen=True, slots=True)
class Request:
    """One inference.

    `adapter` is the name under which `Engine.ensure_adapter` loaded it, None asks the base.
    `temperature` 0 is greedy. Without a `seed` the engine draws one.
    `max_tokens` is cut to what fits into the context after the prompt.

    Penalties, biases and cuts are applied in this order: `logit_bias` (token -> what is added),
    `repetition_penalty` (over prompt and answer), `frequency_penalty` and `presence_penalty` (over
    the answer), temperature, `top_k` (0: all), `top_p`, `min_p` (part of the likeliest token's
    probability). `logprobs` is how many alternatives each token tells, None for no probabilities;
    they are those of the model itself, before all of the above. With `prompt_logprobs` the stream
    tells the same for the prompt.

    With a `json_schema` (its text) the answer is JSON of that schema, unless `max_tokens` cuts it.

    `owner` is whose prompt it is: prompts are shared in the cache among the same owner's requests
    only, and owners take turns when more is asked than fits. `deadline` is when the request ends as
    if it were cancelled, waiting or running, by `time.monotonic()`.
    """

    request_id: str
    input_ids: tuple[int, ...]
    adapter: str | None = None
    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=())
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    prompt_logprobs: bool = False
    stop_ids: frozenset[int] = frozenset()
    ignore_end: bool = False
    json_schema: str | None = None
    owner: str = ""
    deadline: float | None = None

    @property
    def greedy(self) -> bool:
        """Whether the largest logit is the answer, as it comes from the model."""
        return self.temperature == 0.0 and not self.shifts and self.json_schema is None

    @property
    def shifts(self) -> bool:
        """Whether logits are changed before a token is chosen."""
        return bool(
            self.logit_bias
            or self.frequency_penalty
            or self.presence_penalty
            or self.repetition_penalty != 1.0
        )


@dataclass(frozen=True, slots=True)
class Logprob:
    """Natural logarithm of a token's probability, with the likeliest tokens at its place."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """One step of an answer.

    `text` may be empty: a token can hold half a character, or text that may yet turn out to be
    a stop string. The last one has a `finish_reason`; its `id` is None where no token was drawn
    for it (cancelled). `at` is when it was there, by `time.perf_counter()`.
    """

    id: int | None
    text: str
    finish_reason: Finish | None = None
    logprob: Logprob | None = None
    at: float = 0.0


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
