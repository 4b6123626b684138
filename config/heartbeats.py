"""Tells PostgreSQL which Celery workers live, on which device. Imported by workers only."""

import logging
import os
import socket
import threading
from typing import Any

from celery.signals import celeryd_after_setup, worker_ready, worker_shutting_down
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts import leases, workers
from accounts.workers import own_queue

logger = logging.getLogger(__name__)
_stop = threading.Event()
_queues: list[str] = []

# Queues whose work runs on an accelerator where there is one.
COMPUTE_QUEUES = ("train", "attribute", "generate")


@celeryd_after_setup.connect
def remember_queues(sender: Any, instance: Any, **_: Any) -> None:
    _queues[:] = list(instance.app.amqp.queues.consume_from)
    for queue in _queues:
        if queue.startswith("generate."):
            # One of its own beside the shared one, for requests whose adapter it has in memory.
            instance.app.amqp.queues.select_add(own_queue(queue, leases.worker_name()))


@worker_ready.connect
def start_beating(sender: Any, **_: Any) -> None:
    name = f"{socket.gethostname()}:{os.getpid()}"
    threading.Thread(target=_beat, args=(name, list(_queues)), daemon=True).start()


@worker_shutting_down.connect
def stop_beating(**_: Any) -> None:
    _stop.set()


def _beat(name: str, queues: list[str]) -> None:
    device, dtype = "cpu", "float32"
    if any(queue.split(".")[0] in COMPUTE_QUEUES for queue in queues):
        # Brings torch, which the workers of the other queues never load.
        from modelfactory.training.devices import choose_device

        device, dtype = choose_device()
    while not _stop.is_set():
        try:
            for queue in queues:
                workers.beat(
                    name=name,
                    queue=queue,
                    pid=os.getpid(),
                    device=device,
                    dtype=dtype,
                    at=timezone.now(),
                )
        except Exception:
            # A lost database must not end the thread: the next beat tries a new connection.
            logger.warning("heartbeat not written", exc_info=True)
            connection.close()
        _stop.wait(settings.WORKER_HEARTBEAT_SECONDS)
    workers.leave(name=name)
    connection.close()
