"""`manage.py doctor` says what is up, what is missing and what to do."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts import outbox, workers
from config.doctor import Finding, examine

pytestmark = pytest.mark.django_db


def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(at=timezone.now())}


def test_it_names_database_and_broker_with_their_versions() -> None:
    found = findings()
    assert found["database"].well
    assert "PostgreSQL" in found["database"].fact
    assert found["redis"].well
    assert found["schema"].fact == "up to date"


def test_it_says_which_worker_is_missing_and_what_to_do() -> None:
    missing = findings()["worker train"]
    assert not missing.well
    assert "make demo" in missing.what_to_do


def test_it_shows_device_and_dtype_of_a_worker() -> None:
    workers.beat(
        name="gpu:7",
        queue="generate.starter",
        pid=7,
        device="cuda",
        dtype="bfloat16",
        at=timezone.now(),
    )
    worker = findings()["worker generate"]
    assert worker.well
    assert worker.fact == "generate.starter: cuda bfloat16, pid 7"


def test_a_message_that_nobody_sends_asks_for_the_relay() -> None:
    outbox.enqueue(
        task="accounts.tasks.sweep_leases",
        args=[],
        queue="default",
        at=timezone.now() - timedelta(minutes=5),
    )
    waiting = findings()["outbox"]
    assert not waiting.well
    assert "manage.py relay" in waiting.what_to_do


def test_a_chain_that_does_not_answer_is_missing(settings: object) -> None:
    settings.CHAIN_ENABLED = True  # type: ignore[attr-defined]
    settings.CHAIN_RPC_URL = "http://127.0.0.1:1"  # type: ignore[attr-defined]
    chain = findings()["chain"]
    assert not chain.well
    assert "CHAIN_RPC_URL" in chain.what_to_do


def test_without_a_chain_it_says_what_does_not_work(settings: object) -> None:
    settings.CHAIN_ENABLED = False  # type: ignore[attr-defined]
    assert "no deposits" in findings()["chain"].fact


def test_the_command_ends_with_1_where_something_is_missing() -> None:
    with pytest.raises(CommandError, match="need something"):
        call_command("doctor", stdout=StringIO())


def test_it_speaks_json_for_machines() -> None:
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("doctor", "--format", "json", stdout=out)
    assert {"name", "well", "fact", "what_to_do"} == set(json.loads(out.getvalue())[0])
