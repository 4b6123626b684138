"""Tasks on their way to the broker.

A service writes a row in its own transaction; the relay publishes it after the commit and marks
it sent. A crash in between publishes it again, which is why every task is idempotent.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from accounts.models import OutboxMessage

CHANNEL = "openledger_outbox"
BATCH = 500
KEPT_AFTER_SENDING = timedelta(days=2)

Send = Callable[[str, list[Any], str], None]


def enqueue(
    *,
    task: str,
    args: Sequence[Any],
    queue: str,
    at: datetime,
    delay: timedelta | None = None,
    key: str | None = None,
) -> None:
    """Queue `task(*args)`. With a `key`, a second unsent row of the same key is not written."""
    OutboxMessage.objects.bulk_create(
        [
            OutboxMessage(
                task=task,
                args=list(args),
                queue=queue,
                key=key,
                available_at=at + (delay or timedelta()),
            )
        ],
        ignore_conflicts=key is not None,
    )
    # PostgreSQL delivers a notification at commit, and folds equal ones of a transaction.
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


def publish_due(*, send: Send, at: datetime) -> int:
    """Hand every due message to `send(task, args, queue)`; return how many were sent."""
    with transaction.atomic():
        due = list(
            OutboxMessage.objects.select_for_update(skip_locked=True)
            .filter(sent_at__isnull=True, available_at__lte=at)
            .order_by("available_at", "id")[:BATCH]
        )
        for message in due:
            send(message.task, message.args, message.queue)
        OutboxMessage.objects.filter(pk__in=[message.pk for message in due]).update(sent_at=at)
    return len(due)


def forget_sent(*, at: datetime) -> int:
    """Delete messages that were sent long ago."""
    deleted, _ = OutboxMessage.objects.filter(sent_at__lt=at - KEPT_AFTER_SENDING).delete()
    return deleted
