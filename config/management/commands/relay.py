"""Publishes outbox messages to Celery as soon as their transaction commits."""

import signal
import time
from typing import Any
from uuid import UUID

import psycopg
from django.core.management.base import BaseCommand
from django.db import OperationalError, connection
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from accounts import outbox
from config.celery import app
from config.outbox_ends import MESSAGE_HEADER

IDLE_SECONDS = 0.5
LOOK_FOR_LOST_SECONDS = 2.0
PAUSE_AFTER_ERROR = 1.0
# Seconds. While a batch is sent, who enqueues one of its keys waits; a broker that accepts and says
# nothing must not hold those for ever. The relay only sends, so no long poll is cut short.
BROKER_TIMEOUTS = {"socket_timeout": 5, "socket_connect_timeout": 5}


def send(task: str, args: list[Any], queue: str, message_id: UUID) -> None:
    headers = {MESSAGE_HEADER: str(message_id)}
    app.send_task(task, args=args, queue=queue, headers=headers, retry=False)


class Command(BaseCommand):
    help = "Publish outbox messages to the broker until stopped."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--once", action="store_true", help="publish what is due, then end")

    def handle(self, *args: Any, **options: Any) -> None:
        self.running = True
        self.looked = 0.0
        options_of_broker: dict[str, Any] = app.conf.broker_transport_options
        app.conf.broker_transport_options = options_of_broker | BROKER_TIMEOUTS
        if options["once"]:
            self._drain()
            return
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        while self.running:
            try:
                self._listen()
            except (psycopg.OperationalError, OperationalError, BrokerError, OSError) as error:
                self.stderr.write(f"relay: {error}; trying again")
                connection.close()
                time.sleep(PAUSE_AFTER_ERROR)

    def _stop(self, *_: Any) -> None:
        self.running = False

    def _listen(self) -> None:
        connection.ensure_connection()
        raw = connection.connection
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {outbox.CHANNEL}")
        while self.running:
            self._drain()
            # The timeout finds messages whose time has come without a commit.
            for _ in raw.notifies(timeout=IDLE_SECONDS, stop_after=1):
                pass

    def _drain(self) -> None:
        while outbox.publish_due(send=send, at=timezone.now()) == outbox.BATCH:
            pass
        if time.monotonic() - self.looked > LOOK_FOR_LOST_SECONDS:
            self.looked = time.monotonic()
            outbox.publish_again(send=send, at=timezone.now())
