"""What the head of the house keeps: how the books compared, each time they were compared."""

from typing import Any

from django.db import models

from accounts.models.base import Entity


class Reconciliation(Entity):
    """One comparison of ledger, chain and log. `created_at` is when it began."""

    holds = models.BooleanField()
    # What could not be read, so that nothing was compared with it.
    problem = models.TextField(blank=True, default="")
    # Findings as JSON; wei and counts are decimal strings.
    findings = models.JSONField(default=list)
    ended_at = models.DateTimeField()

    class Meta:
        ordering = ("-created_at",)
        indexes = [models.Index(fields=["-created_at"], name="reconciliation_by_time")]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M} {'equal' if self.holds else 'different'}"

    @property
    def different(self) -> list[dict[str, Any]]:
        return [finding for finding in self.findings if not finding["holds"]]
