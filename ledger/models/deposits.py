"""OPEN that came in through the Gateway: credited once, and undone where the chain undoes it."""

from __future__ import annotations

import pgtrigger
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.models.accounts import Account
from ledger.models.entries import Entry


class Deposit(Entity):
    """One deposit of one transaction. `log_index` is its place among our events of it, from 0.

    CREDITED: it lies in the account. VANISHED: a reorganisation past a safe block took its block
    away after it was credited; what had been spent of it is the owner's RECEIVABLE until the
    transaction comes again.
    """

    class State(models.TextChoices):
        CREDITED = "CREDITED", "Credited"
        VANISHED = "VANISHED", "Undone by the chain"

    chain_id = models.PositiveBigIntegerField()
    tx_hash = models.CharField(max_length=66)
    log_index = models.PositiveIntegerField()
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="deposits")
    amount = WeiField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.CREDITED)
    # The entry that credited it the first time.
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="+")
    # How often the chain took it back; part of the keys of the entries that say so.
    undone = models.PositiveIntegerField(default=0)
    vanished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["chain_id", "tx_hash", "log_index"], name="ledger_deposit_once"
            ),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0), name="ledger_deposit_positive"
            ),
            models.CheckConstraint(
                condition=models.Q(state="CREDITED", vanished_at__isnull=True)
                | models.Q(state="VANISHED", vanished_at__isnull=False, undone__gt=0),
                name="ledger_deposit_vanished_at_a_time",
            ),
        ]
        indexes = [models.Index(fields=["account", "-id"], name="ledger_deposit_by_account")]
        triggers = [
            pgtrigger.Protect(name="is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="keeps_what_came",
                fields=["chain_id", "tx_hash", "log_index", "account", "amount", "entry"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.amount}"
