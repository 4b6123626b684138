"""Records as examples: the file a job reads, the check before it, and the held-out split."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from modelfactory.training.prompts import Example, PromptError, PromptTokenizer, render_example
from modelfactory.training.recipe import Recipe

MINIMUM_RECORDS = 8


class Problem(StrEnum):
    EMPTY = "EMPTY"
    TEMPLATE = "TEMPLATE"
    TOO_LONG = "TOO_LONG"
    NOTHING_TO_LEARN = "NOTHING_TO_LEARN"


# A record with one of these is left out of a run; a record that is only too long is cut.
BLOCKING = frozenset({Problem.EMPTY, Problem.TEMPLATE, Problem.NOTHING_TO_LEARN})


@dataclass(frozen=True)
class Row:
    """A record with its id and its number, counted from 1 in the order of the versions."""

    record: str
    number: int
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    number: int
    record: str
    problem: Problem
    message: str


@dataclass(frozen=True)
class Item:
    """A record that can be trained on."""

    record: str
    example: Example
    payload: Mapping[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Read a job's records.jsonl: {"record": id, "payload": {...}} a line."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            entry = json.loads(line)
            yield Row(entry["record"], number, entry["payload"])


def examine(
    rows: Iterable[Row], tokenizer: PromptTokenizer, *, cutoff: int
) -> tuple[list[Item], list[Finding]]:
    """Render every record; tell what is wrong with which, by row number."""
    items, findings = [], []
    for row in rows:
        finding = _empty(row)
        if finding is None:
            try:
                example = render_example(row.payload, tokenizer, cutoff)
            except PromptError as error:
                finding = Finding(row.number, row.record, Problem.TEMPLATE, str(error))
            else:
                finding = _length(row, example, cutoff)
        if finding is not None:
            findings.append(finding)
        if finding is None or finding.problem not in BLOCKING:
            items.append(Item(row.record, example, row.payload))
    return items, findings


def _empty(row: Row) -> Finding | None:
    messages = row.payload.get("messages")
    if messages is None:
        text = row.payload.get("text")
        if isinstance(text, str) and text.strip():
            return None
        return Finding(row.number, row.record, Problem.EMPTY, "The text is empty.")
    if not isinstance(messages, list) or not messages:
        return Finding(row.number, row.record, Problem.EMPTY, "The conversation is empty.")
    for place, message in enumerate(messages, 1):
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, str) or not content.strip():
            said = f"Message {place} is empty."
            return Finding(row.number, row.record, Problem.EMPTY, said)
    if not any(message.get("role") == "assistant" for message in messages):
        said = "No message of an assistant, so there is no answer to learn."
        return Finding(row.number, row.record, Problem.NOTHING_TO_LEARN, said)
    return None


def _length(row: Row, example: Example, cutoff: int) -> Finding | None:
    if not any(example.loss_mask[1:]):
        said = f"The question alone fills the cutoff of {cutoff} tokens; no answer is left."
        return Finding(row.number, row.record, Problem.NOTHING_TO_LEARN, said)
    if example.full_length > cutoff:
        said = f"{example.full_length} tokens; what is after {cutoff} is cut."
        return Finding(row.number, row.record, Problem.TOO_LONG, said)
    return None


def split(records: Sequence[str], *, fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Ids for training and held out. A record's side depends on the seed and its id alone
    among the others, not on the order. At least one stands on each side from two records on.
    """
    ranked = sorted(set(records), key=lambda record: _rank(record, seed))
    count = 0 if len(ranked) < 2 else min(len(ranked) - 1, max(1, round(fraction * len(ranked))))
    held_out = set(ranked[:count])
    order = list(dict.fromkeys(records))
    return [r for r in order if r not in held_out], [r for r in order if r in held_out]


def _rank(record: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{record}".encode()).digest()


def usable(items: Sequence[Item], recipe: Recipe) -> None:
    """Raise ValueError where too few records are left to train and to measure."""
    if len(items) < MINIMUM_RECORDS:
        raise ValueError(
            f"{len(items)} usable records are too few: a run needs {MINIMUM_RECORDS} or more. "
            "Add records to the Datanet and publish a version."
        )
