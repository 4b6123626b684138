"""The main job, headless, on a real file, through the same services and workers as in a browser."""

import json
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from config.tour.journey import Journey, StepFailed, StepSkipped, failing_as
from config.tour.people import tour_people
from config.tour.steps import STEPS, Step


class Command(BaseCommand):
    help = "Walk a file of records through all ten steps; exit non-zero where one fails."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("file", type=Path, help="JSONL, JSON, CSV or Parquet")
        parser.add_argument(
            "--contributor-column", default="", help="column that names each row's contributor"
        )
        parser.add_argument("--format", choices=("text", "json"), default="text")
        parser.add_argument(
            "--url", default=settings.SITE_URL, help="where the web process listens"
        )
        parser.add_argument("--minutes", type=float, default=9.5, help="time for the whole tour")

    def handle(self, *args: Any, **options: Any) -> None:
        file: Path = options["file"]
        if not file.is_file():
            raise CommandError(f"There is no file {file}.")
        journey = Journey(
            file=file,
            base_url=options["url"].rstrip("/"),
            minutes=options["minutes"],
            contributor_column=options["contributor_column"],
            people=tour_people(),
        )
        as_json = options["format"] == "json"
        outcomes = []
        for step in STEPS:
            outcome = self._walk(step, journey)
            outcomes.append(outcome)
            if not as_json:
                self._tell(outcome)
            if outcome["result"] == "FAILED":
                break
        if as_json:
            self.stdout.write(json.dumps({"file": str(file), "steps": outcomes}, indent=2))
        if outcomes[-1]["result"] == "FAILED":
            raise CommandError(f"Step {outcomes[-1]['step']} failed.", returncode=1)

    def _walk(self, step: Step, journey: Journey) -> dict[str, Any]:
        started = time.monotonic()
        outcome: dict[str, Any] = {"step": step.number, "title": step.title}
        try:
            with failing_as(step.title):
                outcome |= {"result": "DONE", "figures": step.walk(journey)}
        except StepSkipped as reason:
            outcome |= {"result": "SKIPPED", "reason": str(reason)}
        except StepFailed as reason:
            outcome |= {"result": "FAILED", "reason": str(reason)}
        return outcome | {"seconds": round(time.monotonic() - started, 1)}

    def _tell(self, outcome: dict[str, Any]) -> None:
        figures = outcome.get("figures") or {"reason": outcome.get("reason")}
        told = ", ".join(
            f"{name.replace('_', ' ')} {_short(value)}" for name, value in figures.items()
        )
        self.stdout.write(
            f"{outcome['step']:>2}. {outcome['title']:<12} {outcome['result']:<8}"
            f"{outcome['seconds']:>6.1f} s  {told}"
        )
        self.stdout.flush()


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_short(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(part) for part in value) + "]"
    return str(value)
