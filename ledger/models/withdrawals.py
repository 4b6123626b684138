"""OPEN on its way from the ledger to a wallet, in batches that the Gateway pays."""

from __future__ import annotations

from typing import Any, ClassVar

import pgtrigger
from django.conf import settings
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.models.accounts import Account
from ledger.models.entries import Entry


class WithdrawalBatch(Entity):
    """What one call of `Gateway.withdraw` pays; its id is the batch's number there."""

    intent_id = models.UUIDField(unique=True)
    size = models.PositiveIntegerField()
    amount = WeiField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                # Gateway.BATCH_LIMIT: a transaction may use no more gas than that many need.
                condition=models.Q(size__gte=1) & models.Q(size__lte=300),
                name="ledger_withdrawal_batch_fits_a_transaction",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.size} withdrawals"


class WithdrawalQuerySet(models.QuerySet["Withdrawal"]):
    def visible_to(self, user: Any) -> WithdrawalQuerySet:
        """The user's own; staff see all."""
        if user.is_staff:
            return self
        return self.filter(user_id=user.pk) if user.is_authenticated else self.none()


class Withdrawal(Entity):
    """Somebody's OPEN on its way to an address, once.

    REQUESTED: the money lies in the owner's WITHDRAWING account. BATCHED: an intent names it.
    SUBMITTED: the intent is signed, so it may be paid at any moment. PAID: the Gateway's event is
    final. REFUSED (by the recipient) and FAILED (the batch can never be mined): credited back.
    """

    class State(models.TextChoices):
        REQUESTED = "REQUESTED", "Recorded"
        BATCHED = "BATCHED", "In a batch"
        SUBMITTED = "SUBMITTED", "Submitted"
        PAID = "PAID", "Paid"
        REFUSED = "REFUSED", "Refused"
        FAILED = "FAILED", "Failed"

    OPEN: ClassVar[tuple[str, ...]] = (State.REQUESTED, State.BATCHED, State.SUBMITTED)
    RETURNED: ClassVar[tuple[str, ...]] = (State.REFUSED, State.FAILED)

    # What was asked once is written once.
    key = models.CharField(max_length=200, unique=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="withdrawals"
    )
    source = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    address = models.CharField(max_length=42)
    amount = WeiField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.REQUESTED)
    cause_kind = models.CharField(max_length=40)
    cause_id = models.UUIDField(null=True, blank=True)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="+")
    batch = models.ForeignKey(
        WithdrawalBatch,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="withdrawals",
    )
    # Its number within the batch: the event of the Gateway names it by this.
    place = models.PositiveIntegerField(null=True, blank=True)
    closed_by = models.OneToOneField(
        Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    # How often a reorganisation past a final block took its end back.
    reopened = models.PositiveIntegerField(default=0)
    tx_hash = models.CharField(max_length=66, blank=True, default="")
    failure_reason = models.TextField(blank=True, default="")

    objects = WithdrawalQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=["batch", "place"], name="ledger_withdrawal_one_place"),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0), name="ledger_withdrawal_positive"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    state__in=("REQUESTED", "BATCHED", "SUBMITTED"), closed_by__isnull=True
                )
                | models.Q(state__in=("PAID", "REFUSED", "FAILED"), closed_by__isnull=False),
                name="ledger_withdrawal_closed_by_an_entry",
            ),
            models.CheckConstraint(
                condition=models.Q(state="REQUESTED", batch__isnull=True, place__isnull=True)
                | (
                    ~models.Q(state="REQUESTED")
                    & models.Q(batch__isnull=False, place__isnull=False)
                ),
                name="ledger_withdrawal_batched_once",
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-id"], name="ledger_withdrawal_by_user"),
            models.Index(fields=["cause_kind", "cause_id"], name="ledger_withdrawal_by_cause"),
            models.Index(
                fields=["id"],
                condition=models.Q(state__in=("REQUESTED", "BATCHED", "SUBMITTED")),
                name="ledger_withdrawal_open",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="keeps_what_was_asked",
                fields=["key", "user", "source", "address", "amount", "entry"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.amount}"
