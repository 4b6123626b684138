"""The tour's command tells each step with its figures, and fails where a step fails.

The steps themselves are walked for real in tests/browser/test_walk_headless.py.
"""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from config.management.commands import tour
from config.tour.journey import Journey, StepFailed, StepSkipped
from config.tour.rules import change_the_split
from config.tour.steps import STEPS, Step

pytestmark = pytest.mark.django_db


def done(journey: Journey) -> dict[str, Any]:
    return {"rows": 7, "wei": {"EARNINGS": "5"}, "names": ["ada", "ben"]}


def skipped(journey: Journey) -> dict[str, Any]:
    raise StepSkipped("There is no chain.")


def failed(journey: Journey) -> dict[str, Any]:
    raise StepFailed("Nobody came.")


def broken(journey: Journey) -> dict[str, Any]:
    raise ZeroDivisionError("by zero")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Why?", "answer": "Because."}\n')
    return path


def walk(monkeypatch: pytest.MonkeyPatch, file: Path, *walks: Any, **options: Any) -> str:
    steps = tuple(Step(number, f"Step {number}", walk) for number, walk in enumerate(walks, 1))
    monkeypatch.setattr(tour, "STEPS", steps)
    out = io.StringIO()
    try:
        call_command("tour", file, stdout=out, **options)
    finally:
        monkeypatch.setattr(tour, "STEPS", STEPS)
        walk.said = out.getvalue()  # type: ignore[attr-defined]
    return out.getvalue()


def test_each_step_is_a_line_with_its_figures(monkeypatch: Any, file: Path) -> None:
    lines = walk(monkeypatch, file, done, skipped).splitlines()
    assert len(lines) == 2
    assert "DONE" in lines[0]
    assert "rows 7, wei {EARNINGS: 5}, names [ada, ben]" in lines[0]
    assert "SKIPPED" in lines[1]
    assert "There is no chain." in lines[1]


def test_machines_read_json(monkeypatch: Any, file: Path) -> None:
    told = json.loads(walk(monkeypatch, file, done, skipped, format="json"))
    assert [step["result"] for step in told["steps"]] == ["DONE", "SKIPPED"]
    assert told["steps"][0]["figures"]["wei"] == {"EARNINGS": "5"}


@pytest.mark.parametrize(("bad", "reason"), [(failed, "Nobody came."), (broken, "by zero")])
def test_a_failed_step_ends_it_with_an_error(
    monkeypatch: Any, file: Path, bad: Any, reason: str
) -> None:
    with pytest.raises(CommandError, match="Step 2 failed") as error:
        walk(monkeypatch, file, done, bad, done)
    assert error.value.returncode == 1
    lines = walk.said.splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 2
    assert reason in lines[1]


def test_a_missing_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There is no file"):
        call_command("tour", tmp_path / "nowhere.jsonl")


def test_votes_are_skipped_on_a_chain_that_is_not_local(settings: Any, file: Path) -> None:
    settings.CHAIN_ENABLED, settings.CHAIN_IS_LOCAL = True, False
    with pytest.raises(StepSkipped, match="local chain"):
        change_the_split(Journey(file=file, base_url="http://localhost"))


def test_all_ten_steps_stand_in_their_order() -> None:
    assert [step.number for step in STEPS] == list(range(1, 11))
