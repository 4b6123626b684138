"""Tells the outbox which tasks have come to their end. Imported with the Celery application."""

import logging
from typing import Any

from celery import states
from celery.signals import task_postrun
from django.db import connection

from accounts import outbox

logger = logging.getLogger(__name__)

# The relay sends the message's id in it; what beat sends has none.
MESSAGE_HEADER = "outbox_message"


@task_postrun.connect
def end_message(task: Any = None, state: str = "", **_: Any) -> None:
    """A task that raised keeps its message, so that it is tried again."""
    message_id = task.request.get(MESSAGE_HEADER)
    if message_id is None or state != states.SUCCESS:
        return
    try:
        outbox.done(message_id)
    except Exception:
        # The task's work is committed; at worst it is sent once more.
        logger.warning("message %s stays, though its task ended", message_id, exc_info=True)
    finally:
        connection.close()
