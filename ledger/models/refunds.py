"""A captured fee that was given back: who bore it, why, and the entries that did it."""

from __future__ import annotations

import pgtrigger
from django.conf import settings
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.models.entries import NEVER_CHANGED, Entry
from ledger.models.holds import Hold


class Refund(Entity):
    """One for a hold at most, never changed. Its entries reverse the capture and the settlement.

    `amount` is the whole fee; `taken_back` of it was still where the fee had put it, `borne` had
    left and came out of the platform's account.
    """

    hold = models.OneToOneField(Hold, on_delete=models.PROTECT, related_name="refund")
    amount = WeiField()
    taken_back = WeiField()
    borne = WeiField()
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="+")
    # None where nothing was settled yet: the contributors' part still waited for the receipt.
    settlement = models.OneToOneField(
        Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    # For the payer and staff, not for the public receipt.
    reason = models.CharField(max_length=500)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(amount__gt=0, taken_back__gte=0, borne__gte=0)
                & models.Q(amount=models.F("taken_back") + models.F("borne")),
                name="ledger_refund_adds_up",
            ),
        ]
        triggers = [pgtrigger.Protect(name="is_never_changed", operation=NEVER_CHANGED)]

    def __str__(self) -> str:
        return f"{self.amount} of {self.hold_id}"
