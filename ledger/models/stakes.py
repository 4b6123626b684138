"""Money that a person puts at risk for something: given back, taken in part, or taken whole."""

import pgtrigger
from django.conf import settings
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.models.entries import Entry


class Stake(Entity):
    """`amount` wei of one person for one cause, on an account of kind STAKE that this row owns.

    What was slashed and what was returned add up to the amount once it is closed. A bond is a
    stake too: its cause is what it vouches for.
    """

    class State(models.TextChoices):
        LOCKED = "LOCKED", "Locked"
        CLOSED = "CLOSED", "Closed"

    staker = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="stakes"
    )
    state = models.CharField(max_length=6, choices=State.choices, default=State.LOCKED)
    amount = WeiField()
    slashed = WeiField(default=0)
    returned = WeiField(default=0)
    cause_kind = models.CharField(max_length=40)
    cause_id = models.UUIDField()
    opened_by = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="+")
    # The entry that took or gave the last wei.
    closed_by = models.OneToOneField(
        Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["cause_kind", "cause_id"],
                condition=models.Q(state="LOCKED"),
                name="ledger_stake_one_locked_per_cause",
            ),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0)
                & models.Q(slashed__gte=0)
                & models.Q(returned__gte=0)
                & models.Q(amount__gte=models.F("slashed") + models.F("returned")),
                name="ledger_stake_takes_no_more",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    state="LOCKED", closed_by__isnull=True, closed_at__isnull=True, returned=0
                )
                | models.Q(
                    state="CLOSED",
                    closed_by__isnull=False,
                    closed_at__isnull=False,
                    amount=models.F("slashed") + models.F("returned"),
                ),
                name="ledger_stake_closes_whole",
            ),
        ]
        indexes = [models.Index(fields=["staker", "-created_at"], name="ledger_stake_by_staker")]
        triggers = [
            pgtrigger.Protect(name="is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="keeps_its_terms",
                fields=["id", "staker", "amount", "cause_kind", "cause_id", "opened_by"],
            ),
            pgtrigger.Protect(
                name="closes_once",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state="CLOSED"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.amount} for {self.cause_kind} {self.cause_id}"

    @property
    def left(self) -> int:
        """What still lies on its account, in wei."""
        return self.amount - self.slashed - self.returned
