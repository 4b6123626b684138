"""Which engines live, what they hold, and how fast they answer: for the page and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from serving.latencies import quantile
from serving.models import EngineReport

MISSED_REPORTS = 4


def reported_name(adapter: str) -> str:
    """What a report calls an adapter of an engine: enough of its hash to tell it from others."""
    return adapter[:16]


@dataclass(frozen=True, slots=True)
class EngineView:
    """One engine as staff see it; times in seconds, None where nothing was answered yet."""

    report: EngineReport
    rows_a_step: float | None
    cached_percent: int
    first_token: tuple[float | None, float | None]
    between: tuple[float | None, float | None]

    @property
    def engine(self) -> dict[str, Any]:
        engine: dict[str, Any] = self.report.snapshot["engine"]
        return engine

    @property
    def adapters(self) -> list[dict[str, Any]]:
        adapters: list[dict[str, Any]] = self.report.snapshot["adapters"]
        return adapters


def live_reports(at: datetime) -> QuerySet[EngineReport]:
    since = at - timedelta(seconds=MISSED_REPORTS * settings.WORKER_HEARTBEAT_SECONDS)
    return EngineReport.objects.filter(at__gte=since)


def live_engines(at: datetime) -> list[EngineView]:
    return [_view(report) for report in live_reports(at)]


def _view(report: EngineReport) -> EngineView:
    engine = report.snapshot["engine"]
    steps, asked = engine["steps"], engine["prompt_tokens"]
    return EngineView(
        report=report,
        rows_a_step=engine["step_rows"] / steps if steps else None,
        cached_percent=engine["cached_tokens"] * 100 // asked if asked else 0,
        first_token=_half_and_most(report.snapshot["first_token"]),
        between=_half_and_most(report.snapshot["between"]),
    )


def _half_and_most(kept: dict[str, Any]) -> tuple[float | None, float | None]:
    return quantile(kept, 0.5), quantile(kept, 0.95)
