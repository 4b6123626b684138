"""Which column means what: detected from names, corrected by a person, applied to every row."""

from collections.abc import Mapping as Values
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from datanets.ingest.conversations import messages_of
from datanets.ingest.faults import ValueFault
from datanets.ingest.payload import (
    ASSISTANT,
    SYSTEM,
    USER,
    Payload,
    require_storable,
    require_text,
)

NAME_CHARS = 200


class Shape(StrEnum):
    """How a row is to be read."""

    QUESTION_ANSWER = "question_answer"
    INSTRUCTION = "instruction"
    MESSAGES = "messages"
    TEXT = "text"

    @property
    def label(self) -> str:
        """What the person chooses."""
        return SHAPE_LABELS[self]

    @property
    def columns(self) -> tuple[str, ...]:
        """The mapping's fields that this shape uses, needed ones first."""
        return SHAPE_COLUMNS[self]


SHAPE_LABELS = {
    Shape.QUESTION_ANSWER: "Question and answer",
    Shape.INSTRUCTION: "Instruction, input and output",
    Shape.MESSAGES: "Conversation (list of messages)",
    Shape.TEXT: "Plain text",
}
SHAPE_COLUMNS = {
    Shape.QUESTION_ANSWER: ("question", "answer", "system"),
    Shape.INSTRUCTION: ("instruction", "output", "input", "system"),
    Shape.MESSAGES: ("messages", "system"),
    Shape.TEXT: ("text",),
}
OPTIONAL = frozenset({"input", "system", "contributor"})
# Rows that name files of media are not text, whatever else they hold.
MEDIA_COLUMNS = frozenset({"image", "images", "audio", "audios", "video", "videos"})

SYNONYMS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "turns"),
    "instruction": ("instruction", "instructions"),
    "input": ("input", "context"),
    "output": ("output", "response", "completion", "answer"),
    "question": ("question", "prompt", "query", "q", "input", "title"),
    "answer": ("answer", "answers", "completion", "response", "a", "output", "reply"),
    "text": ("text", "content", "body", "document", "passage", "sentence"),
    "system": ("system", "system_prompt"),
}


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Column names by meaning; an empty name means that no column has this meaning."""

    shape: Shape
    question: str = ""
    answer: str = ""
    instruction: str = ""
    input: str = ""
    output: str = ""
    messages: str = ""
    text: str = ""
    system: str = ""
    contributor: str = ""

    @classmethod
    def from_dict(cls, values: Values[str, Any]) -> Self:
        """A mapping out of stored or posted values. Raises ValueFault MAPPING."""
        try:
            shape = Shape(str(values.get("shape")))
        except ValueError:
            raise ValueFault(
                "MAPPING", "Choose how a row is to be read: " + ", ".join(Shape) + ".", "shape"
            ) from None
        names = {name: str(values.get(name) or "") for name in (*shape.columns, "contributor")}
        mapping = cls(shape=shape, **names)
        mapping._require_complete()
        return mapping

    def as_dict(self) -> dict[str, str]:
        """The mapping as plain values, without empty names."""
        return {key: str(value) for key, value in asdict(self).items() if value}

    def require_columns(self, columns: Sequence[str]) -> None:
        """Raise ValueFault where the mapping names a column that the file lacks."""
        for field in (*self.shape.columns, "contributor"):
            column = getattr(self, field)
            if column and column not in columns:
                raise ValueFault(
                    "MAPPING",
                    f"The file has no column “{column}”. It has: {', '.join(columns[:20])}.",
                    field,
                )

    def _require_complete(self) -> None:
        for field in self.shape.columns:
            if field not in OPTIONAL and not getattr(self, field):
                raise ValueFault("MAPPING", f"Choose the column that holds the {field}.", field)


def detect(columns: Sequence[str]) -> Mapping | None:
    """The likeliest mapping of a file with these columns; None where none fits."""
    by_name = {name.strip().lower(): name for name in reversed(columns)}

    def find(meaning: str) -> str:
        return next((by_name[word] for word in SYNONYMS[meaning] if word in by_name), "")

    system = find("system")
    if messages := find("messages"):
        return Mapping(shape=Shape.MESSAGES, messages=messages, system=system)
    if (instruction := find("instruction")) and (output := find("output")):
        return Mapping(
            shape=Shape.INSTRUCTION,
            instruction=instruction,
            input=find("input"),
            output=output,
            system=system,
        )
    question, answer = find("question"), find("answer")
    if question and answer and question != answer:
        return Mapping(shape=Shape.QUESTION_ANSWER, question=question, answer=answer, system=system)
    if text := find("text") or (columns[0] if len(columns) == 1 else ""):
        return Mapping(shape=Shape.TEXT, text=text)
    return None


def payload_of(mapping: Mapping, values: Values[str, Any], *, text_chars: int) -> Payload:
    """One row's payload. Raises ValueFault with the column at fault."""
    for name in MEDIA_COLUMNS.intersection(values):
        if values[name]:
            raise ValueFault(
                "MEDIA",
                f"The row names files in “{name}”; this Datanet holds text. Leave the row out.",
                name,
            )
    payload = _BUILDERS[mapping.shape](mapping, values, text_chars)
    if "messages" in payload:
        _add_system(payload, mapping, values, text_chars)
    return payload


def contributor_of(mapping: Mapping, values: Values[str, Any]) -> str:
    """The contributor that the row names; empty where no column is mapped. Raises ValueFault."""
    column = mapping.contributor
    if not column:
        return ""
    value = values.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    name = " ".join(require_text(value, column, limit=NAME_CHARS).split())
    return require_storable(name, column, limit=NAME_CHARS)


def _question_answer(mapping: Mapping, values: Values[str, Any], limit: int) -> Payload:
    question = require_text(values.get(mapping.question), mapping.question, limit=limit)
    answer = require_text(values.get(mapping.answer), mapping.answer, limit=limit)
    return _exchange(question, answer)


def _instruction(mapping: Mapping, values: Values[str, Any], limit: int) -> Payload:
    prompt = require_text(values.get(mapping.instruction), mapping.instruction, limit=limit)
    extra = values.get(mapping.input) if mapping.input else None
    is_blank = extra is None or (isinstance(extra, str) and not extra.strip())
    if not is_blank:
        prompt = f"{prompt}\n\n{require_text(extra, mapping.input, limit=limit)}"
    return _exchange(prompt, require_text(values.get(mapping.output), mapping.output, limit=limit))


def _messages(mapping: Mapping, values: Values[str, Any], limit: int) -> Payload:
    column = mapping.messages
    return {"messages": messages_of(values.get(column), column, limit=limit)}


def _text(mapping: Mapping, values: Values[str, Any], limit: int) -> Payload:
    return {"text": require_text(values.get(mapping.text), mapping.text, limit=limit)}


_BUILDERS = {
    Shape.QUESTION_ANSWER: _question_answer,
    Shape.INSTRUCTION: _instruction,
    Shape.MESSAGES: _messages,
    Shape.TEXT: _text,
}


def _exchange(prompt: str, answer: str) -> Payload:
    return {
        "messages": [
            {"role": USER, "content": prompt},
            {"role": ASSISTANT, "content": answer},
        ]
    }


def _add_system(payload: Payload, mapping: Mapping, values: Values[str, Any], limit: int) -> None:
    value = values.get(mapping.system) if mapping.system else None
    if value is None or value == "":
        return
    if payload["messages"][0]["role"] == SYSTEM:
        raise ValueFault(
            "ORDER", "The row has two system messages. Keep one of them.", mapping.system
        )
    content = require_text(value, mapping.system, limit=limit)
    payload["messages"].insert(0, {"role": SYSTEM, "content": content})
