"""A lower room tells a higher one through an event, in the transaction of the change."""

from datetime import UTC, datetime

import pytest

from accounts import events
from accounts.models import OutboxMessage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_subscribers(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import defaultdict

    monkeypatch.setattr(events, "_subscribers", defaultdict(list))


@pytest.mark.django_db
def test_each_subscriber_gets_the_payload() -> None:
    events.subscribe("room.changed", task="a.tasks.one", queue="default")
    events.subscribe("room.changed", task="b.tasks.two", queue="attribute")
    events.emit("room.changed", {"id": "7"}, at=NOON)
    rows = OutboxMessage.objects.order_by("task").values_list("task", "queue", "args")
    assert list(rows) == [
        ("a.tasks.one", "default", [{"id": "7"}]),
        ("b.tasks.two", "attribute", [{"id": "7"}]),
    ]


@pytest.mark.django_db
def test_subscribing_twice_is_subscribing_once() -> None:
    events.subscribe("room.changed", task="a.tasks.one")
    events.subscribe("room.changed", task="a.tasks.one")
    events.emit("room.changed", {}, at=NOON)
    assert OutboxMessage.objects.count() == 1


@pytest.mark.django_db
def test_an_event_without_subscribers_goes_nowhere() -> None:
    events.emit("room.silent", {}, at=NOON)
    assert OutboxMessage.objects.count() == 0
