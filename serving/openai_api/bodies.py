"""Reading request bodies of the OpenAI API: typed, with limits, and nothing ignored in silence.

A field that would change the answer and is not served is refused by name; fields that only label
a request (`user`, `metadata`, `store`) are left aside, as any other that is not known.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from serving.errors import InvalidRequest
from serving.limits import BODY_BYTES, BODY_DEPTH, MESSAGES, STOP_LENGTH, STOP_STRINGS
from serving.models import CompletionKind
from serving.questions import Question, Sampling

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
_TEXT_PART = "text"
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Part(msgspec.Struct):
    type: str
    text: str | None = None


class Message(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None
    tool_calls: list[Any] | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Common(msgspec.Struct, kw_only=True):
    """What chat and text completions share."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, max_tokens: int | None) -> Sampling:
        """Checked settings. Raises InvalidRequest with the field that is to blame."""
        _refuse(self.n not in (None, 1), "n", "Ask for one answer at a time: n is 1.")
        _refuse(bool(self.presence_penalty), "presence_penalty", "Penalties are not served.")
        _refuse(bool(self.frequency_penalty), "frequency_penalty", "Penalties are not served.")
        _refuse(bool(self.logit_bias), "logit_bias", "logit_bias is not served.")
        temperature = 1.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        _refuse(not 0 <= temperature <= 2, "temperature", "temperature is from 0 to 2.")
        _refuse(not 0 < top_p <= 1, "top_p", "top_p is above 0 and at most 1.")
        _refuse(max_tokens is not None and max_tokens < 1, "max_tokens", "It is at least 1.")
        _refuse(
            self.seed is not None and not -(2**63) <= self.seed < 2**63,
            "seed",
            "seed is a whole number of 64 bits.",
        )
        return Sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=self.seed,
            stop=_stops(self.stop),
        )


class ChatBody(Common, kw_only=True):
    messages: list[Message]
    max_completion_tokens: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None

    def question(self) -> Question:
        _refuse(bool(self.tools or self.functions), "tools", "Tools are not served.")
        _refuse(bool(self.logprobs), "logprobs", "logprobs are not served.")
        _refuse(
            self.response_format is not None and self.response_format.get("type") != "text",
            "response_format",
            "Only the response format text is served.",
        )
        _refuse(self.modalities not in (None, ["text"]), "modalities", "Only text is served.")
        _refuse(not self.messages, "messages", "messages is empty: ask something.")
        _refuse(len(self.messages) > MESSAGES, "messages", f"Send at most {MESSAGES} messages.")
        return Question(
            kind=CompletionKind.CHAT,
            messages=[_message(place, message) for place, message in enumerate(self.messages)],
        )

    def checked_sampling(self) -> Sampling:
        both = self.max_tokens is not None and self.max_completion_tokens is not None
        _refuse(both, "max_tokens", "Give max_tokens or max_completion_tokens, not both.")
        return self.sampling(
            self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        )


class TextBody(Common, kw_only=True):
    prompt: str | list[str | int | list[int]]
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    logprobs: int | None = None

    def question(self) -> Question:
        _refuse(bool(self.suffix), "suffix", "suffix is not served.")
        _refuse(bool(self.echo), "echo", "echo is not served.")
        _refuse(self.best_of not in (None, 1), "best_of", "best_of is not served.")
        _refuse(self.logprobs is not None, "logprobs", "logprobs are not served.")
        prompt: Any = self.prompt
        if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return Question(kind=CompletionKind.TEXT, text=prompt)
        if all(isinstance(token, int) for token in prompt):
            return Question(kind=CompletionKind.TEXT, token_ids=prompt)
        raise InvalidRequest("Send one prompt at a time.", parameter="prompt")

    def checked_sampling(self) -> Sampling:
        return self.sampling(self.max_tokens)


Body = TypeVar("Body", ChatBody, TextBody)


def read(raw: bytes, kind: type[Body]) -> Body:
    """Parse a request body. Raises InvalidRequest."""
    if len(raw) > BODY_BYTES:
        raise InvalidRequest(f"The body is larger than {BODY_BYTES} bytes.")
    _check_depth(raw)
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        message, place = str(error), None
        if (found := _PLACE.search(message)) is not None:
            place, message = found["place"], message[: found.start()]
        raise InvalidRequest(f"{place or 'The body'}: {message}.", parameter=place) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from error


def _check_depth(raw: bytes) -> None:
    """Before the parser runs, whose own limit depends on what else the process imported."""
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", raw)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > BODY_DEPTH:
            raise InvalidRequest(f"The body is nested deeper than {BODY_DEPTH} levels.")


def _message(place: int, message: Message) -> dict[str, str]:
    name = f"messages.[{place}]"
    role = ROLES.get(message.role)
    if role is None:
        raise InvalidRequest(
            f"The role {message.role[:40]!r} is not served; a role is system, user or assistant.",
            parameter=f"{name}.role",
        )
    _refuse(bool(message.tool_calls), f"{name}.tool_calls", "Tools are not served.")
    content = message.content
    if content is None:
        raise InvalidRequest("The message has no content.", parameter=f"{name}.content")
    if isinstance(content, list):
        strange = [part.type for part in content if part.type != _TEXT_PART or part.text is None]
        _refuse(bool(strange), f"{name}.content", "Only parts of type text are served.")
        content = "".join(part.text or "" for part in content)
    return {"role": role, "content": content}


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    _refuse(len(stops) > STOP_STRINGS, "stop", f"Give at most {STOP_STRINGS} stop strings.")
    _refuse(
        any(not text or len(text) > STOP_LENGTH for text in stops),
        "stop",
        f"A stop string has 1 to {STOP_LENGTH} characters.",
    )
    return tuple(stops)


def _refuse(wrong: bool, parameter: str, message: str) -> None:
    if wrong:
        raise InvalidRequest(message, parameter=parameter)
