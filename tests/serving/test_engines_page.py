"""Staff and Prometheus see which engine lives, what it holds and how fast it answers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from serving.latencies import Histogram, cumulative, quantile
from serving.models import EngineReport

pytestmark = pytest.mark.django_db
ENGINE = {
    "adapters": 2, "adapter_bytes": 4096, "active": 3, "waiting": 1, "cache_bytes": 10,
    "threads": 1, "registered": 9, "kept_bytes": 5, "cached_tokens": 25, "prompt_tokens": 100,
    "answer_tokens": 60, "steps": 20, "step_rows": 60, "backend": "native",
}  # fmt: skip


def report(ago: float = 0.0, **changes: object) -> EngineReport:
    first = Histogram()
    for seconds in (0.02, 0.02, 0.2, 40.0):
        first.add(seconds)
    adapter = {"name": "builder-tuned", "bytes": 2048, "load_ms": 1.5, "hits": 7, "pinned": True}
    snapshot = {
        "engine": ENGINE | changes,
        "adapters": [adapter],
        "first_token": first.to_json(),
        "between": Histogram().to_json(),
    }
    at = timezone.now() - timedelta(seconds=ago)
    return EngineReport.objects.create(worker="w:1", base="starter", at=at, snapshot=snapshot)


def samples(text: str) -> dict[str, float]:
    return {
        f"{one.name}{one.labels.get('le', '')}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_a_histogram_counts_each_in_the_first_bucket_that_holds_it():
    found = Histogram()
    for seconds in (0.005, 0.006, 31.0):
        found.add(seconds)
    counted = dict(cumulative(found.to_json()))
    assert (counted["0.005"], counted["0.01"], counted["30.0"], counted["+Inf"]) == (1, 2, 2, 3)
    assert quantile(found.to_json(), 0.5) == 0.01
    assert quantile(Histogram().to_json(), 0.5) is None


def test_staff_see_what_each_engine_holds(client, staff):
    report()
    client.force_login(staff)
    page = client.get("/staff/engines/").content.decode()
    for words in ("builder-tuned", "PINNED", "starter", "25 % of 100", "half within 0.025 s"):
        assert words in page


def test_a_silent_engine_is_not_shown(client, staff):
    report(ago=600)
    client.force_login(staff)
    assert "No engine has reported lately" in client.get("/staff/engines/").content.decode()


def test_prometheus_reads_the_same(client, settings):
    settings.METRICS_TOKEN = "a-long-token"
    report()
    answer = client.get("/metrics", headers={"authorization": "Bearer a-long-token"})
    found = samples(answer.content.decode())
    assert found["openledger_engine_queue"] == 1
    assert found["openledger_engine_step_rows_total"] == 60
    assert found["openledger_engine_first_token_seconds_bucket0.25"] == 3
    assert found["openledger_engine_first_token_seconds_count"] == 4
    assert found["openledger_completions_unfinished"] == 0


@pytest.mark.parametrize("token", ["", "wrong"])
def test_nobody_else_reads_the_metrics(client, client_person, settings, token):
    report()
    settings.METRICS_TOKEN = token and "a-long-token"
    headers = {"authorization": f"Bearer {token}"}
    assert client.get("/metrics", headers=headers).status_code == 401
    client.force_login(client_person)
    assert client.get("/metrics").status_code == 401
    assert client.get("/staff/engines/").status_code == 403
    client.logout()
    assert client.get("/staff/engines/").status_code == 302
