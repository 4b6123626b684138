"""What Prometheus reads: engines from their last reports, completions from the database.

Text exposition by `prometheus_client`, from a registry of its own for each reading: the figures
live in the database, so any web process tells the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Count
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from serving.latencies import cumulative
from serving.models import Completion, EngineReport
from serving.residency import live_reports

LABELS = ("base", "worker")
GAUGES = {
    "active": ("rows", "Requests that are being answered."),
    "waiting": ("queue", "Requests that wait for a place."),
    "adapters": ("adapters", "Adapters in memory."),
    "adapter_bytes": ("adapter_bytes", "Bytes of adapters in memory."),
    "registered": ("adapters_registered", "Adapters packed on disk."),
    "cache_bytes": ("cache_bytes", "Bytes of keys and values of running requests."),
    "graph_bytes": ("graph_bytes", "Bytes that captured steps (CUDA graphs) keep on the device."),
    "kept_bytes": ("cache_kept_bytes", "Bytes kept of prompts that may be asked again."),
}
COUNTERS = {
    "prompt_tokens": ("prompt_tokens", "Tokens of prompts."),
    "cached_tokens": ("prompt_tokens_cached", "Tokens of prompts that the cache had."),
    "answer_tokens": ("answer_tokens", "Tokens of answers."),
    "steps": ("steps", "Steps of the engine."),
    "step_rows": ("step_rows", "Rows of all steps; divided by steps, the batch size."),
}
HISTOGRAMS = {
    "first_token": ("first_token_seconds", "From taking a request to its first token."),
    "between": ("between_tokens_seconds", "From one token to the next."),
}


def exposition(at: datetime) -> bytes:
    """The text that a Prometheus server scrapes."""
    registry = CollectorRegistry()
    registry.register(_House(at))
    return generate_latest(registry)


class _House:
    def __init__(self, at: datetime) -> None:
        self._at = at

    def collect(self) -> Iterator[Metric]:
        reports = list(live_reports(self._at))
        for key, (name, help_text) in GAUGES.items():
            gauge = GaugeMetricFamily(f"openledger_engine_{name}", help_text, labels=LABELS)
            for report in reports:
                gauge.add_metric(_labels(report), _number(report, key))
            yield gauge
        for key, (name, help_text) in COUNTERS.items():
            counter = CounterMetricFamily(f"openledger_engine_{name}", help_text, labels=LABELS)
            for report in reports:
                counter.add_metric(_labels(report), _number(report, key))
            yield counter
        for key, (name, help_text) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(f"openledger_engine_{name}", help_text, labels=LABELS)
            for report in reports:
                kept: dict[str, Any] = report.snapshot[key]
                histogram.add_metric(_labels(report), cumulative(kept), sum_value=kept["sum"])
            yield histogram
        yield _unfinished()


def _unfinished() -> Metric:
    gauge = GaugeMetricFamily(
        "openledger_completions_unfinished", "Completions by state.", labels=("state",)
    )
    counted = Completion.objects.unfinished().order_by().values("state").annotate(n=Count("id"))
    rows = {row["state"]: row["n"] for row in counted}
    for state in ("HELD", "RUNNING"):
        gauge.add_metric((state,), rows.get(state, 0))
    return gauge


def _labels(report: EngineReport) -> tuple[str, str]:
    return report.base, report.worker


def _number(report: EngineReport, key: str) -> float:
    return float(report.snapshot["engine"].get(key, 0))  # a worker of before tells less
