"""The generate worker tells the database what its engines hold and how fast they are, and before it
tells so keeps in memory what is pinned.

Imported by workers alone; pages and metrics read what it wrote.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from serving.engine.engine import Engine
from serving.latencies import Histogram
from serving.models import EngineReport
from serving.residency import reported_name

logger = logging.getLogger(__name__)

KEPT = timedelta(days=1)
ADAPTERS = 500  # shown of one engine, those asked for last


class Reporter:
    """One thread of the process. `names` maps an adapter's name to its deployment's."""

    def __init__(
        self,
        worker: str,
        engines: Callable[[], Mapping[str, Engine]],
        keep_pins: Callable[[str, Engine], None],
    ) -> None:
        self.first_token, self.between = Histogram(), Histogram()
        self.names: dict[str, str] = {}
        self._worker, self._engines, self._keep_pins = worker, engines, keep_pins
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
                self._thread.start()

    def report(self) -> None:
        at = timezone.now()
        engines = self._engines()
        for base, engine in engines.items():
            self._keep_pins(base, engine)
            EngineReport.objects.update_or_create(
                worker=self._worker,
                base=base,
                defaults={"at": at, "snapshot": self.snapshot(engine)},
            )
        # Whoever asks makes up merges, so the names of what is gone would grow without end.
        held = {one.name for engine in engines.values() for one in engine.adapters()}
        for name in [*self.names]:
            if name not in held:
                self.names.pop(name, None)
        EngineReport.objects.filter(at__lt=at - KEPT).delete()

    def snapshot(self, engine: Engine) -> dict[str, Any]:
        adapters = [
            {
                "adapter": reported_name(one.name),
                "name": self.names.get(one.name, one.name[:12]),
                "bytes": one.bytes,
                "load_ms": round(one.load_seconds * 1_000, 2),
                "hits": one.hits,
                "pinned": one.pinned,
            }
            for one in reversed(engine.adapters()[-ADAPTERS:])
        ]
        return {
            "engine": asdict(engine.residency()),
            "places": engine.max_active,
            "adapters": adapters,
            "first_token": self.first_token.to_json(),
            "between": self.between.to_json(),
        }

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self.report()
            except Exception:
                # A lost database must not end the thread: the next report tries again.
                logger.warning("the engines' report was not written", exc_info=True)
            connection.close()
            pause.wait(settings.WORKER_HEARTBEAT_SECONDS)
