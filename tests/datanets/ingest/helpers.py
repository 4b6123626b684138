"""Small files, and what a check made of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from datanets.ingest import check as ingest
from datanets.ingest.faults import Fault
from datanets.ingest.limits import Limits
from datanets.ingest.mapping import Mapping, Shape, detect

QA = Mapping(shape=Shape.QUESTION_ANSWER, question="question", answer="answer")
TEXT = Mapping(shape=Shape.TEXT, text="text")
SHARED = Path(__file__).resolve().parents[3].parent / "shared"


def shared(part: str) -> Path:
    path = SHARED / part
    if not path.exists():
        pytest.skip(f"shared data is absent: {part}")
    return path


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def run(
    path: Path, mapping: Mapping = QA, **limits: int
) -> tuple[list[ingest.Candidate], list[Fault]]:
    """(good, refused) of a file."""
    items = list(ingest.check(path, path.name, mapping, limits=Limits(**limits)))
    good = [item for item in items if not isinstance(item, Fault)]
    return good, [item for item in items if isinstance(item, Fault)]


def run_detected(path: Path) -> tuple[list[ingest.Candidate], list[Fault]]:
    """(good, refused) with the mapping that the preview detects."""
    found = ingest.preview(path, path.name, Limits(file_bytes=10**9)).mapping
    assert found is not None
    return run(path, found, file_bytes=10**9)


def codes(faults: list[Fault]) -> list[tuple[int, str, str]]:
    return [(fault.row, fault.column, fault.code) for fault in faults]


__all__ = ["QA", "TEXT", "codes", "detect", "lines", "run", "run_detected", "shared", "write"]
