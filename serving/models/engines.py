"""What the engine of a worker said of itself at its last sign of life."""

from __future__ import annotations

from typing import Any

from django.db import models

from accounts.models import Entity


class EngineReport(Entity):
    """`snapshot` is what `serving.reporting.snapshot` makes: counts, bytes, seconds, adapters."""

    worker = models.CharField(max_length=200)
    base = models.CharField(max_length=200)
    at = models.DateTimeField(db_index=True)
    snapshot: Any = models.JSONField(default=dict)

    class Meta:
        ordering = ["base", "worker"]
        constraints = [
            models.UniqueConstraint(fields=["worker", "base"], name="serving_enginereport_one")
        ]

    def __str__(self) -> str:
        return f"{self.base} on {self.worker}"
