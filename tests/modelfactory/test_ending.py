"""Cancelling, restarting, and what the sweeper does with a run whose worker is gone."""

from datetime import timedelta
from importlib.util import find_spec

import pytest
from django.core.exceptions import PermissionDenied

from accounts import leases, outbox
from accounts.models import Notification, OutboxMessage
from modelfactory.errors import RunError
from modelfactory.models import Run, RunEvent
from modelfactory.services import runs
from modelfactory.training.job import Event
from tests.modelfactory.world import NOW


@pytest.fixture
def queued(draft, builder):
    return runs.start_run(run=draft, acting_user=builder, at=NOW)


@pytest.fixture
def running(queued):
    assert claim(queued, "worker-1")
    queued.refresh_from_db()
    return queued


def claim(run, owner, at=NOW):
    return leases.claim(Run, run.pk, from_states=["QUEUED"], to_state="RUNNING", owner=owner, at=at)


def test_only_one_worker_gets_it(queued):
    assert claim(queued, "worker-1")
    assert not claim(queued, "worker-2")


def test_a_waiting_run_is_cancelled_at_once(queued, builder):
    assert runs.cancel_run(run=queued, acting_user=builder, at=NOW).state == "CANCELLED"


def test_a_working_run_is_told_to_stop(running, builder):
    run = runs.cancel_run(run=running, acting_user=builder, at=NOW)
    assert (run.state, run.cancel_requested) == ("RUNNING", True)


def test_a_stranger_cancels_nothing(queued, stranger):
    with pytest.raises(PermissionDenied):
        runs.cancel_run(run=queued, acting_user=stranger, at=NOW)


def test_a_cancelled_run_starts_again(queued, builder):
    runs.cancel_run(run=queued, acting_user=builder, at=NOW)
    run = runs.restart_run(run=queued, acting_user=builder, at=NOW)
    assert run.state == "QUEUED"
    assert OutboxMessage.objects.filter(queue="train").count() == 2


def test_a_run_that_waits_is_not_started_again(queued, builder):
    with pytest.raises(RunError):
        runs.restart_run(run=queued, acting_user=builder, at=NOW)


def test_the_sweeper_puts_a_lost_run_back_and_fails_it_after_three(running, settings):
    later = NOW
    for attempt in range(1, settings.WORK_ATTEMPTS + 1):
        later += timedelta(hours=1)
        leases.sweep(at=later)
        running.refresh_from_db()
        if attempt < settings.WORK_ATTEMPTS:
            assert running.state == "QUEUED"
            assert claim(running, f"worker-{attempt}", at=later)
    assert running.state == "FAILED"
    assert "stopped answering 3 times" in running.failure_reason
    assert Notification.objects.filter(user=running.builder, title__contains="failed").exists()


def test_a_run_that_was_to_be_cancelled_is_when_its_worker_is_gone(running, builder):
    runs.cancel_run(run=running, acting_user=builder, at=NOW)
    leases.sweep(at=NOW + timedelta(hours=1))
    running.refresh_from_db()
    assert running.state == "CANCELLED"


def test_a_worker_that_stops_gives_its_run_back_without_counting_the_attempt(running):
    runs.give_back(run_id=running.pk, owner="worker-1", at=NOW)
    running.refresh_from_db()
    assert (running.state, running.attempts) == ("QUEUED", 0)


def test_a_worker_that_lost_the_lease_changes_nothing(running):
    runs.crash(run_id=running.pk, owner="worker-2", reason="no", at=NOW)
    runs.give_back(run_id=running.pk, owner="worker-2", at=NOW)
    running.refresh_from_db()
    assert running.state == "RUNNING"


def test_events_that_are_told_twice_are_kept_once(running):
    told = [
        Event(n, "PROGRESS", n, NOW.isoformat(), {"loss": 5.0 - n, "steps": 9}) for n in (1, 2, 3)
    ]
    runs.record_events(run_id=running.pk, events=told[:2])
    runs.record_events(run_id=running.pk, events=told)
    running.refresh_from_db()
    assert RunEvent.objects.filter(run=running).count() == 3
    assert (running.step, running.steps) == (3, 9)


def test_a_message_that_the_broker_lost_is_sent_again_without_a_second_one(queued, settings):
    sent = []
    outbox.publish_due(send=lambda *message: sent.append(message), at=NOW)
    late = NOW + 2 * settings.WORK_LEASE
    assert outbox.publish_again(send=lambda *message: sent.append(message), at=late) == 1
    assert [message[1] for message in sent] == [[str(queued.pk)]] * 2
    assert OutboxMessage.objects.filter(queue="train").count() == 1


def test_the_clock_writes_no_messages_of_runs():
    assert find_spec("modelfactory.schedule") is None


def test_a_worker_that_lost_the_lease_neither_fails_nor_cancels(running):
    runs.fail(running.pk, "no", NOW, owner="worker-2")
    runs.cancelled(run_id=running.pk, at=NOW, owner="worker-2")
    running.refresh_from_db()
    assert (running.state, running.lease_owner) == ("RUNNING", "worker-1")
    assert not Notification.objects.filter(user=running.builder).exists()


def test_a_run_that_waits_again_is_not_failed_by_its_former_worker(running):
    runs.requeue(running.pk, NOW)
    runs.fail(running.pk, "no", NOW, owner="worker-1")
    running.refresh_from_db()
    assert running.state == "QUEUED"


def test_the_worker_that_holds_a_run_fails_it(running):
    runs.fail(running.pk, "The records are gone.", NOW, owner="worker-1")
    running.refresh_from_db()
    assert (running.state, running.failure_reason) == ("FAILED", "The records are gone.")
