"""Tasks on their way to the broker, and until a worker has ended them.

A service writes a row in its own transaction; the relay publishes it after the commit and marks
it sent; the worker that ends the task takes the row away. A row that stays is sent again: the
broker lost it, or the worker died with it in hand. So a task may come twice, which is why every
task is idempotent.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Final, LiteralString
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Greatest, Least
from django.utils import timezone

from accounts import prepared
from accounts.copying import copy_rows
from accounts.ids import uuid7
from accounts.models import OutboxMessage

CHANNEL = "openledger_outbox"
BATCH = 500
LONGEST_WAIT = timedelta(hours=6)
GIVEN_UP_AFTER = timedelta(days=30)

# Sends task, args, queue and the message's id, which the worker gives to `done`.
Send = Callable[[str, list[Any], str, UUID], None]


# PostgreSQL delivers a notification at commit, and folds equal ones of a transaction. Of a key that
# waits already nothing is written.
_ENQUEUE: Final[LiteralString] = f"""
WITH made AS (
    INSERT INTO accounts_outboxmessage (id, created_at, task, args, queue, key, available_at)
    VALUES ($1::uuid, $2::timestamptz, $3::varchar, $4::jsonb, $5::varchar, $6::varchar,
            $7::timestamptz)
    ON CONFLICT DO NOTHING
) SELECT pg_notify('{CHANNEL}', '')
"""


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
    due = at + (delay or timedelta())
    values = [uuid7(), timezone.now(), task, json.dumps(list(args)), queue, key, due]
    prepared.fetch(_ENQUEUE, values)


def enqueue_many(*, task: str, args: Sequence[Sequence[Any]], queue: str, at: datetime) -> None:
    """Queue `task` once for each of `args`, in one statement."""
    if not args:
        return
    now = timezone.now()
    copy_rows(
        OutboxMessage,
        ("id", "created_at", "task", "args", "queue", "available_at"),
        [(uuid7(), now, task, json.dumps(list(one)).encode(), queue, at) for one in args],
    )
    _wake_the_relay()


# One statement, since somebody waits for its first row: what is sent is marked, and unmarked again
# with the transaction where sending fails.
_DUE: Final[LiteralString] = """
UPDATE accounts_outboxmessage SET sent_at = %(at)s WHERE id = ANY (ARRAY(
    SELECT id FROM accounts_outboxmessage WHERE sent_at IS NULL AND available_at <= %(at)s
    ORDER BY available_at, id LIMIT %(most)s FOR UPDATE SKIP LOCKED
)) RETURNING available_at, id, task, args, queue
"""


def publish_due(*, send: Send, at: datetime) -> int:
    """Send every message whose time has come, up to BATCH, the oldest first; return how many."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_DUE, {"at": at, "most": BATCH})
            due = cursor.fetchall()
        for _, pk, task, args, queue in sorted(due, key=itemgetter(0, 1)):
            send(task, json.loads(args), queue, pk)
        # A mark that a crash of the server loses is a message sent twice, which is nothing new; the
        # worker's claim does not wait behind its write. Local to the transaction: behind a pooler
        # the connection is somebody else's next.
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit TO off")
    return len(due)


def publish_again(*, send: Send, at: datetime) -> int:
    """Send once more what no worker has ended; return how many.

    After a lease, then after twice as long each time, up to LONGEST_WAIT: where workers are only
    busy, copies must not fill the queues.
    """
    waited = Least(Greatest(F("sent_at") - F("available_at"), settings.WORK_LEASE), LONGEST_WAIT)
    lost = OutboxMessage.objects.filter(
        sent_at__lte=at - settings.WORK_LEASE, available_at__gt=at - GIVEN_UP_AFTER
    ).filter(sent_at__lte=at - waited)
    with transaction.atomic():
        chosen = list(
            lost.select_for_update(skip_locked=True).order_by("available_at", "id")[:BATCH]
        )
        for message in chosen:
            send(message.task, message.args, message.queue, message.pk)
        OutboxMessage.objects.filter(pk__in=[message.pk for message in chosen]).update(sent_at=at)
    return len(chosen)


def done(message_id: UUID | str) -> None:
    """The task has come to its end, so its message need not be sent again."""
    OutboxMessage.objects.filter(pk=message_id).delete()


def forget_given_up(*, at: datetime) -> int:
    """Delete messages that no worker has ended for so long that none will."""
    deleted, _ = OutboxMessage.objects.filter(
        sent_at__isnull=False, available_at__lte=at - GIVEN_UP_AFTER
    ).delete()
    return deleted


def _wake_the_relay() -> None:
    # PostgreSQL delivers a notification at commit, and folds equal ones of a transaction.
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")
