"""Keeps the process's work its own: renews leases, and passes cancellations on to the engine."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.models import WorkItem
from serving import streams

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.2


class Cancels(Protocol):
    def cancel(self, request_id: str) -> None: ...


@dataclass
class Watched:
    """Work under a lease. What has an `engine` is cancelled there after its `deadline`."""

    model: type[WorkItem]
    pk: UUID
    owner: str
    deadline: datetime | None = None
    engine: Cancels | None = None


class Watcher:
    """One thread for all work of the process: a statement per model and renewal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[str, Watched] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, item: Watched) -> Iterator[Watched]:
        """Hold the lease of `item` for as long as the block runs."""
        with self._lock:
            self._items[str(item.pk)] = item
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
                self._thread.start()
        try:
            yield item
        finally:
            with self._lock:
                self._items.pop(str(item.pk), None)

    def _run(self) -> None:
        renewed = time.monotonic()
        while True:
            time.sleep(WATCH_SECONDS)
            with self._lock:
                items = dict(self._items)
            try:
                # First, since looking for cancelled ones fails where Redis is away.
                if time.monotonic() - renewed > settings.WORK_LEASE.total_seconds() / 4:
                    renewed = time.monotonic()
                    self._renew(items)
                self._cancel(items)
            except Exception:
                # Redis or PostgreSQL may be away for a moment; the next round tries again.
                logger.warning("watching the work of this process failed", exc_info=True)
                connection.close()

    def _cancel(self, items: dict[str, Watched]) -> None:
        now = timezone.now()
        running = {name: item for name, item in items.items() if item.engine is not None}
        late = {name for name, item in running.items() if item.deadline and item.deadline <= now}
        for name in late.union(streams.which_are_cancelled(list(running))):
            engine = running[name].engine
            assert engine is not None
            engine.cancel(name)

    def _renew(self, items: dict[str, Watched]) -> None:
        by_model: dict[type[WorkItem], list[Watched]] = defaultdict(list)
        for item in items.values():
            by_model[item.model].append(item)
        for model, found in by_model.items():
            rows: Any = model._default_manager.filter(
                pk__in=[item.pk for item in found], lease_owner__in=[item.owner for item in found]
            )
            rows.update(lease_expires_at=timezone.now() + settings.WORK_LEASE)
        connection.close()
