"""Messages reach the broker after the commit, and again until a worker has ended their task."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction
from pytest_django.fixtures import Settings

from accounts import outbox
from accounts.models import OutboxMessage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Broker:
    def __init__(self) -> None:
        self.sent: list[tuple[str, list[object], str]] = []

    def __call__(self, task: str, args: list[object], queue: str, message_id: UUID) -> None:
        self.sent.append((task, args, queue))


def enqueue(task: str, **options: object) -> None:
    outbox.enqueue(task=task, args=["x"], queue="default", at=NOON, **options)  # type: ignore[arg-type]


@pytest.mark.django_db
def test_a_message_is_sent_once() -> None:
    broker = Broker()
    enqueue("a.tasks.work")
    assert outbox.publish_due(send=broker, at=NOON) == 1
    assert outbox.publish_due(send=broker, at=NOON) == 0
    assert broker.sent == [("a.tasks.work", ["x"], "default")]


@pytest.mark.django_db
def test_the_oldest_is_sent_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BATCH", 3)
    for seconds in (4, 2, 3, 1, 0):
        enqueue(f"task {seconds}", delay=timedelta(seconds=seconds))
    broker = Broker()
    assert outbox.publish_due(send=broker, at=NOON + timedelta(minutes=1)) == 3
    assert outbox.publish_due(send=broker, at=NOON + timedelta(minutes=1)) == 2
    assert [task for task, _, _ in broker.sent] == [f"task {number}" for number in range(5)]


@pytest.mark.django_db
def test_a_delayed_message_waits_for_its_time() -> None:
    broker = Broker()
    enqueue("a.tasks.work", delay=timedelta(seconds=10))
    assert outbox.publish_due(send=broker, at=NOON + timedelta(seconds=9)) == 0
    assert outbox.publish_due(send=broker, at=NOON + timedelta(seconds=10)) == 1


@pytest.mark.django_db
def test_a_key_is_queued_once_while_unsent_and_again_afterwards() -> None:
    broker = Broker()
    enqueue("a.tasks.work", key="same")
    enqueue("a.tasks.work", key="same")
    assert outbox.publish_due(send=broker, at=NOON) == 1
    enqueue("a.tasks.work", key="same")
    assert outbox.publish_due(send=broker, at=NOON) == 1


@pytest.mark.django_db
def test_a_broken_broker_loses_nothing() -> None:
    def broken(task: str, args: list[object], queue: str, message_id: UUID) -> None:
        raise ConnectionError("broker is away")

    enqueue("a.tasks.work")
    with pytest.raises(ConnectionError):
        outbox.publish_due(send=broken, at=NOON)
    broker = Broker()
    assert outbox.publish_due(send=broker, at=NOON) == 1


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_change_sends_nothing() -> None:
    broker = Broker()

    @transaction.atomic
    def fail_half_way() -> None:
        enqueue("a.tasks.work")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert outbox.publish_due(send=broker, at=NOON) == 0


@pytest.fixture
def lease(settings: Settings) -> timedelta:
    settings.WORK_LEASE = timedelta(seconds=30)
    return timedelta(seconds=30)


@pytest.mark.django_db
def test_a_message_that_no_worker_ended_is_sent_again(lease: timedelta) -> None:
    broker = Broker()
    enqueue("a.tasks.work")
    outbox.publish_due(send=broker, at=NOON)
    assert outbox.publish_again(send=broker, at=NOON + lease * 0.9) == 0
    assert outbox.publish_again(send=broker, at=NOON + lease) == 1
    assert broker.sent == [("a.tasks.work", ["x"], "default")] * 2


@pytest.mark.django_db
def test_copies_come_ever_more_rarely(lease: timedelta) -> None:
    broker = Broker()
    enqueue("a.tasks.work")
    outbox.publish_due(send=broker, at=NOON)
    for second in range(1, 3600):
        outbox.publish_again(send=broker, at=NOON + timedelta(seconds=second))
    assert len(broker.sent) == 8  # at 0, 30, 60, 120, 240, 480, 960 and 1,920 seconds


@pytest.mark.django_db
def test_a_message_whose_task_has_ended_is_not_sent_again(lease: timedelta) -> None:
    enqueue("a.tasks.work")
    outbox.publish_due(send=Broker(), at=NOON)
    outbox.done(OutboxMessage.objects.get().pk)
    assert outbox.publish_again(send=Broker(), at=NOON + timedelta(days=1)) == 0


@pytest.mark.django_db
def test_a_message_is_sent_again_beside_a_new_one_of_its_key(lease: timedelta) -> None:
    broker = Broker()
    enqueue("a.tasks.work", key="same")
    outbox.publish_due(send=broker, at=NOON)
    enqueue("a.tasks.work", key="same")
    assert outbox.publish_again(send=broker, at=NOON + lease) == 1
    assert outbox.publish_due(send=broker, at=NOON + lease) == 1


@pytest.mark.django_db
def test_a_message_is_given_up_after_a_month() -> None:
    enqueue("a.tasks.old")
    outbox.publish_due(send=Broker(), at=NOON)
    enqueue("a.tasks.unsent")
    late = NOON + timedelta(days=31)
    assert outbox.publish_again(send=Broker(), at=late) == 0
    assert outbox.forget_given_up(at=late) == 1
    assert OutboxMessage.objects.get().task == "a.tasks.unsent"


@pytest.mark.django_db(transaction=True)
def test_what_the_relay_waits_for_is_nobody_elses_setting() -> None:
    """Behind a pooler the connection is another client's after each transaction."""
    enqueue("a.tasks.work")
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
        assert outbox.publish_due(send=Broker(), at=NOON) == 1
        cursor.execute("SHOW synchronous_commit")
        found = cursor.fetchone()
        cursor.execute("RESET synchronous_commit")
    assert found == ("on",)
