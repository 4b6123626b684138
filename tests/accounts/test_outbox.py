"""Messages reach the broker after the commit, once their time has come, and not without it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from accounts import outbox
from accounts.models import OutboxMessage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Broker:
    def __init__(self) -> None:
        self.sent: list[tuple[str, list[object], str]] = []

    def __call__(self, task: str, args: list[object], queue: str) -> None:
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
    def broken(task: str, args: list[object], queue: str) -> None:
        raise ConnectionError("broker is away")

    enqueue("a.tasks.work")
    with pytest.raises(ConnectionError):
        outbox.publish_due(send=broken, at=NOON)
    broker = Broker()
    assert outbox.publish_due(send=broker, at=NOON) == 1


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_change_sends_nothing() -> None:
    broker = Broker()
    with pytest.raises(RuntimeError), transaction.atomic():
        enqueue("a.tasks.work")
        raise RuntimeError
    assert outbox.publish_due(send=broker, at=NOON) == 0


@pytest.mark.django_db
def test_only_messages_sent_long_ago_are_forgotten() -> None:
    enqueue("a.tasks.old")
    outbox.publish_due(send=Broker(), at=NOON)
    enqueue("a.tasks.unsent")
    assert outbox.forget_sent(at=NOON + timedelta(days=3)) == 1
    assert OutboxMessage.objects.get().task == "a.tasks.unsent"
