"""Reading request bodies of the OpenAI API: typed, with limits, and nothing ignored in silence.

A field that would change the answer and is not served is refused by name; fields that only label
a request (`user`, `metadata`, `store`) are left aside, as any other that is not known.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from serving.errors import InvalidRequest
from serving.limits import (
    BIASES,
    BODY_BYTES,
    BODY_DEPTH,
    CHOICES,
    LOGPROBS,
    MESSAGES,
    SCHEMA_LENGTH,
    STOP_LENGTH,
    STOP_STRINGS,
    TOOLS,
)
from serving.merges import MergeWish
from serving.models import CompletionKind
from serving.openai_api import merging
from serving.questions import Question, Sampling

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_BRACKET = re.compile(rb"[\[\]{}]")
_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
_TEXT_PART = "text"
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


class Part(msgspec.Struct):
    type: str
    text: str | None = None


class Message(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None


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
    # Not OpenAI's, but understood by many servers of its API.
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    # Ours: adapters that answer as one on the base that `model` names.
    adapters: list[merging.Adapter] | None = None
    merge: merging.Settings | None = None

    def merge_wish(self) -> MergeWish | None:
        """The adapters to merge; None where the model answers alone. Raises InvalidRequest."""
        return merging.read(self.adapters, self.merge)

    @property
    def choices(self) -> int:
        """Answers to each prompt. Raises InvalidRequest."""
        n = 1 if self.n is None else self.n
        _refuse(not 1 <= n <= CHOICES, "n", f"Ask for 1 to {CHOICES} answers at a time.")
        return n

    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(
        self,
        max_tokens: int | None,
        *,
        logprobs: int | None = None,
        echo: bool = False,
        json_schema: str | None = None,
    ) -> Sampling:
        """Checked settings. Raises InvalidRequest with the field that is to blame."""
        temperature = self._within("temperature", 1.0, 0, 2)
        top_p = 1.0 if self.top_p is None else self.top_p
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
            top_k=max(0, int(self._within("top_k", 0, -1, 10**6))),  # -1 is all, as 0 is
            min_p=self._within("min_p", 0.0, 0, 1),
            presence_penalty=self._within("presence_penalty", 0.0, -2, 2),
            frequency_penalty=self._within("frequency_penalty", 0.0, -2, 2),
            repetition_penalty=self._within("repetition_penalty", 1.0, 0.01, 10),
            logit_bias=_biases(self.logit_bias or {}),
            logprobs=logprobs,
            echo=echo,
            json_schema=json_schema,
        )

    def _within(self, name: str, default: float, least: float, most: float) -> float:
        value = getattr(self, name)
        if value is None:
            return default
        _refuse(not least <= value <= most, name, f"{name} is from {least} to {most}.")
        return float(value)


class ChatBody(Common, kw_only=True):
    messages: list[Message]
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None

    def questions(self) -> list[Question]:
        return [self.question()]

    def question(self) -> Question:
        tools = self.tools or []
        _refuse(bool(self.functions), "functions", "Send functions as tools.")
        _refuse(len(tools) > TOOLS, "tools", f"Send at most {TOOLS} tools.")
        _refuse(self.modalities not in (None, ["text"]), "modalities", "Only text is served.")
        _refuse(not self.messages, "messages", "messages is empty: ask something.")
        _refuse(len(self.messages) > MESSAGES, "messages", f"Send at most {MESSAGES} messages.")
        return Question(
            kind=CompletionKind.CHAT,
            messages=[
                _message(place, message, with_tools=bool(tools))
                for place, message in enumerate(self.messages)
            ],
            tools=tools,
        )

    def checked_sampling(self) -> Sampling:
        both = self.max_tokens is not None and self.max_completion_tokens is not None
        _refuse(both, "max_tokens", "Give max_tokens or max_completion_tokens, not both.")
        top = self.top_logprobs or 0
        _refuse(not 0 <= top <= LOGPROBS, "top_logprobs", f"top_logprobs is from 0 to {LOGPROBS}.")
        _refuse(bool(top and not self.logprobs), "top_logprobs", "Ask for logprobs too.")
        return self.sampling(
            self.max_completion_tokens if self.max_tokens is None else self.max_tokens,
            logprobs=top if self.logprobs else None,
            json_schema=_schema_of(self.response_format or {"type": "text"}),
        )


class TextBody(Common, kw_only=True):
    prompt: str | list[str | int | list[int]]
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    logprobs: int | None = None

    def question(self) -> Question:
        """The only prompt. Raises InvalidRequest where there are several."""
        found = self.questions()
        _refuse(len(found) != 1, "prompt", "Send one prompt at a time.")
        return found[0]

    def questions(self) -> list[Question]:
        _refuse(bool(self.suffix), "suffix", "suffix is not served.")
        _refuse(self.best_of not in (None, 1), "best_of", "best_of is not served.")
        prompt: Any = self.prompt
        if isinstance(prompt, str) or (prompt and all(isinstance(token, int) for token in prompt)):
            prompt = [prompt]
        _refuse(
            not 1 <= len(prompt) <= CHOICES, "prompt", f"Send 1 to {CHOICES} prompts at a time."
        )
        return [_prompt(one) for one in prompt]

    def checked_sampling(self) -> Sampling:
        told = self.logprobs
        _refuse(
            told is not None and not 0 <= told <= LOGPROBS,
            "logprobs",
            f"logprobs is from 0 to {LOGPROBS}.",
        )
        return self.sampling(self.max_tokens, logprobs=told, echo=bool(self.echo))


Body = TypeVar("Body", bound=msgspec.Struct)


def read(raw: bytes, kind: type[Body]) -> Body:
    """Parse a request body. Raises InvalidRequest."""
    if len(raw) > BODY_BYTES:
        raise InvalidRequest(f"The body is larger than {BODY_BYTES} bytes.")
    _check_depth(raw)
    if _NUL.search(raw):
        raise InvalidRequest("The body holds the character U+0000, which cannot be kept.")
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


def _schema_of(wanted: dict[str, Any]) -> str | None:
    """The text of the schema of a response format; None for plain text. Raises InvalidRequest."""
    kind = wanted.get("type")
    if kind == "text":
        return None
    _refuse(
        kind != "json_schema",
        "response_format",
        "The response formats text and json_schema are served. Give the schema of the JSON.",
    )
    named = wanted.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        raise InvalidRequest(
            "Give the schema as response_format.json_schema.schema.", parameter="response_format"
        )
    text = msgspec.json.encode(schema).decode()
    _refuse(
        len(text) > SCHEMA_LENGTH,
        "response_format",
        f"The schema is longer than {SCHEMA_LENGTH} characters.",
    )
    return text


def _prompt(one: Any) -> Question:
    if isinstance(one, str):
        return Question(kind=CompletionKind.TEXT, text=one)
    if isinstance(one, int):
        raise InvalidRequest("A prompt is a text or a list of tokens.", parameter="prompt")
    return Question(kind=CompletionKind.TEXT, token_ids=one)


def _biases(given: dict[str, float]) -> dict[int, float]:
    """Raises InvalidRequest for a key that is no token, or a bias beyond 100."""
    _refuse(len(given) > BIASES, "logit_bias", f"Give at most {BIASES} biases.")
    wrong = [k for k, bias in given.items() if not k.isdecimal() or not -100 <= bias <= 100]
    _refuse(
        bool(wrong), "logit_bias", "logit_bias maps numbers of tokens to values of -100 to 100."
    )
    return {int(token): bias for token, bias in given.items()}


def _message(place: int, message: Message, *, with_tools: bool) -> dict[str, Any]:
    name = f"messages.[{place}]"
    role = ROLES.get(message.role)
    if role is None or (role == "tool" and not with_tools):
        raise InvalidRequest(
            f"The role {message.role[:40]!r} is not served; a role is system, user or assistant.",
            parameter=f"{name}.role",
        )
    calls = message.tool_calls or []
    _refuse(bool(calls) and not with_tools, f"{name}.tool_calls", "Send the tools too.")
    content = "" if message.content is None and calls else message.content
    if content is None:
        raise InvalidRequest("The message has no content.", parameter=f"{name}.content")
    if isinstance(content, list):
        strange = [part.type for part in content if part.type != _TEXT_PART or part.text is None]
        _refuse(bool(strange), f"{name}.content", "Only parts of type text are served.")
        content = "".join(part.text or "" for part in content)
    told: dict[str, Any] = {"role": role, "content": content}
    for key, value in (
        ("tool_calls", calls),
        ("tool_call_id", message.tool_call_id if role == "tool" else None),
        ("name", message.name if role == "tool" else None),
    ):
        if value:
            told[key] = value
    return told


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
