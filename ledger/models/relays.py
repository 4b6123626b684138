"""How a person wants to be paid, and the fee that is set aside for a claim sent in their stead."""

from __future__ import annotations

import pgtrigger
from django.conf import settings
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.models.accounts import Account
from ledger.models.distributions import Claim, Distribution, PayoutAddress
from ledger.models.entries import Entry


class PayoutChoice(Entity):
    """What a person chose on the page of payout choices; without a row it is OWN and no push."""

    class Claims(models.TextChoices):
        OWN = "OWN", "I claim with my own wallet; set nothing aside"
        ASK = "ASK", "Set a relay fee aside, so that I can have a claim sent without gas"
        AUTO = "AUTO", "Claim for me as soon as a distribution is active"

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="payout_choice"
    )
    claims = models.CharField(max_length=4, choices=Claims.choices, default=Claims.OWN)
    # What the person was shown and agreed to, in wei; a higher fee is never set aside.
    maximum_fee = WeiField(default=0)
    # Small earnings are sent to the wallet in a batch instead of being published.
    push = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"{self.user_id} {self.claims}"


class RelayReserve(Entity):
    """A relay fee that left the earnings of `user` for the claim of `payee`.

    RESERVED: it lies in the RELAY account. SPENT: we sent the claim, it is the platform's.
    RETURNED: the wallet claimed by itself or nobody wants the relay; it is back where it came from.
    """

    class State(models.TextChoices):
        RESERVED = "RESERVED", "Set aside"
        SPENT = "SPENT", "Spent"
        RETURNED = "RETURNED", "Given back"

    payee = models.ForeignKey(PayoutAddress, on_delete=models.PROTECT, related_name="reserves")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="relay_reserves"
    )
    # The epoch before which it was set aside; none where it was paid at the request.
    distribution = models.ForeignKey(
        Distribution, null=True, blank=True, on_delete=models.PROTECT, related_name="reserves"
    )
    source = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    amount = WeiField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.RESERVED)
    # One entry sets the fees of a whole epoch aside.
    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="+")
    closed_by = models.OneToOneField(
        Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    claim = models.ForeignKey(
        Claim, null=True, blank=True, on_delete=models.PROTECT, related_name="reserves"
    )

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["payee"],
                condition=models.Q(state="RESERVED"),
                name="ledger_relay_fee_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0), name="ledger_relay_fee_positive"
            ),
            models.CheckConstraint(
                condition=models.Q(state="RESERVED", closed_by__isnull=True)
                | (~models.Q(state="RESERVED") & models.Q(closed_by__isnull=False)),
                name="ledger_relay_fee_closed_by_an_entry",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="keeps_its_amount",
                fields=["payee", "user", "source", "amount", "entry", "distribution"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.amount}"
