"""Money set aside before work starts, so that paid and failed cannot both be true."""

import pgtrigger
from django.conf import settings
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.models.entries import Entry


class Hold(Entity):
    class State(models.TextChoices):
        PENDING = "PENDING", "Held"
        CAPTURED = "CAPTURED", "Captured"
        RELEASED = "RELEASED", "Released"

    payer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="holds"
    )
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    amount = WeiField()
    captured = WeiField(default=0)
    cause_kind = models.CharField(max_length=40)
    cause_id = models.UUIDField()
    split_version = models.PositiveIntegerField()
    # By what the fee will be divided (`ledger.fees`); None for holds of before there were terms.
    terms = models.JSONField(null=True, blank=True)
    expires_at = models.DateTimeField()
    opened_by = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="+")
    closed_by = models.OneToOneField(
        Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["cause_kind", "cause_id"], name="ledger_hold_one_per_cause"
            ),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0)
                & models.Q(captured__gte=0)
                & models.Q(captured__lte=models.F("amount")),
                name="ledger_hold_captures_no_more",
            ),
            models.CheckConstraint(
                condition=models.Q(state="PENDING", closed_by__isnull=True)
                | models.Q(state__in=["CAPTURED", "RELEASED"], closed_by__isnull=False),
                name="ledger_hold_closed_by_an_entry",
            ),
        ]
        indexes = [
            models.Index(
                fields=["expires_at"],
                name="ledger_hold_expiring",
                condition=models.Q(state="PENDING"),
            ),
            models.Index(fields=["payer", "-created_at"], name="ledger_hold_by_payer"),
            models.Index(
                fields=["payer", "closed_at"],
                name="ledger_hold_captured_by_payer",
                condition=models.Q(state="CAPTURED"),
            ),
        ]
        triggers = [
            pgtrigger.ReadOnly(
                name="keeps_its_terms",
                fields=["payer", "amount", "cause_kind", "cause_id", "split_version", "terms"],
            ),
        ]

    @property
    def returned(self) -> int:
        """What came back to the payer, in wei; nothing while it is held."""
        return 0 if self.state == self.State.PENDING else self.amount - self.captured

    @property
    def refunded(self) -> int:
        """What of it was given back after it was captured, in wei: all of the fee, or nothing."""
        found = getattr(self, "refund", None)
        return 0 if found is None else int(found.amount)

    def __str__(self) -> str:
        return f"{self.state} {self.amount} for {self.cause_kind} {self.cause_id}"
