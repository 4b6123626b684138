"""Domain events: how a lower app tells a higher one, which it may not import.

The higher app subscribes a task in its `AppConfig.ready()`; `emit` writes one outbox row for
each subscriber in the transaction of the change.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from accounts import outbox

_subscribers: dict[str, list[tuple[str, str]]] = defaultdict(list)


def subscribe(event: str, *, task: str, queue: str = "default") -> None:
    """Have `task(payload)` run on `queue` after each commit that emitted `event`."""
    if (task, queue) not in _subscribers[event]:
        _subscribers[event].append((task, queue))


def emit(event: str, payload: dict[str, Any], *, at: datetime) -> None:
    """Announce `event`; `payload` is plain JSON (ids and amounts as strings)."""
    emit_many(event, [payload], at=at)


def emit_many(event: str, payloads: Sequence[dict[str, Any]], *, at: datetime) -> None:
    """Announce `event` once for each payload, in one statement for each subscriber."""
    for task, queue in _subscribers[event]:
        outbox.enqueue_many(task=task, args=[[one] for one in payloads], queue=queue, at=at)
