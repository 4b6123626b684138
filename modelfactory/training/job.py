"""The folder of a job: what goes in, what comes out, and who may work in it.

job.json        Job, written by the caller
records.jsonl   {"record": id, "payload": {...}} a line
parents/N/      adapters to start from, as PEFT reads them
events.jsonl    one Event a line, numbered without gaps, also over a resume
checkpoint/     state to go on from
split.json      {"held_out": [ids], "findings": [...]}
kept/N/         the adapter at earlier steps, for attribution, where the recipe asks for it
adapter/        adapter_model.safetensors and adapter_config.json, as PEFT reads them
result.json     the evaluation and the figures of a finished job
"""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

from modelfactory.training.recipe import Recipe

LOCK_SECONDS = 60


class Exit(IntEnum):
    FINISHED = 0
    FAILED = 1
    STOPPED = 3  # told to stop; a checkpoint stands


class Kind(StrEnum):
    LOG = "LOG"
    STARTED = "STARTED"
    RESUMED = "RESUMED"
    PROGRESS = "PROGRESS"
    EVALUATION = "EVALUATION"
    CHECKPOINT = "CHECKPOINT"
    FINISHED = "FINISHED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class JobError(Exception):
    """The job cannot go on; the text says why and what to do, for people."""


@dataclass(frozen=True)
class Job:
    base_folder: str
    base_name: str
    recipe: dict[str, Any]
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    samples: int = 8  # held-out prompts that are answered before and after
    answer_tokens: int = 64
    checkpoint_seconds: float = 20.0
    first_sequence: int = 1  # number of the first event in a new events.jsonl
    # Weights in basis points of parents/0, parents/1, …; one parent is trained further.
    parents: tuple[int, ...] = ()
    # Of several: nothing is trained, and all records measure the result.
    is_merge: bool = False

    @classmethod
    def read(cls, folder: Path) -> "Job":
        return cls(**json.loads((folder / "job.json").read_text("utf-8")))

    def write(self, folder: Path) -> None:
        write_json(folder / "job.json", asdict(self))

    def parsed_recipe(self) -> Recipe:
        return Recipe.from_json(self.recipe)


@dataclass(frozen=True)
class Event:
    sequence: int
    kind: str
    step: int
    at: str
    data: dict[str, Any]


class Events:
    """Appends to events.jsonl; a line that a killed process left half-written is taken off."""

    def __init__(self, folder: Path, first_sequence: int) -> None:
        self.path = folder / "events.jsonl"
        self._next = first_sequence
        if self.path.exists():
            whole = self.path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            if len(kept) < len(whole):
                self.path.write_bytes(kept)
            self._next += kept.count(b"\n")

    def emit(self, kind: Kind, *, step: int, **data: Any) -> None:
        event = Event(self._next, kind, step, datetime.now(UTC).isoformat(), data)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(event), ensure_ascii=False, allow_nan=False) + "\n")
        self._next += 1


def read_events(path: Path, offset: int) -> tuple[list[Event], int]:
    """Whole lines after byte `offset`, and the offset after them."""
    if not path.exists():
        return [], offset
    with path.open("rb") as stream:
        stream.seek(offset)
        chunk = stream.read()
    end = chunk.rfind(b"\n") + 1
    return [Event(**json.loads(line)) for line in chunk[:end].splitlines()], offset + end


class Stop:
    """Becomes true on SIGTERM or SIGINT, or where the process that started the job is gone."""

    def __init__(self) -> None:
        self.told = False
        self._parent = os.getppid()
        signal.signal(signal.SIGTERM, self._hear)
        signal.signal(signal.SIGINT, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.told = True

    def __bool__(self) -> bool:
        return self.told or os.getppid() != self._parent


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: a job that was given up may still be on its last step."""
    with (folder / "lock").open("w") as lock:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise JobError("Another process still works on this run.") from None
                time.sleep(0.2)
        yield


def kept_folder(folder: Path, number: int) -> Path:
    """Where a job keeps the adapter of an earlier step, counted from 0."""
    (folder / "kept").mkdir(exist_ok=True)
    return folder / "kept" / str(number)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace the file whole, so that nobody reads half of it."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False), "utf-8")
    new.replace(path)
