"""What was published for claiming on the chain, for whom, and what was claimed."""

from __future__ import annotations

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models.functions import Lower, Upper

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.models.entries import Entry


class PayoutAddress(Entity):
    """An address that was ever paid. Its two totals only grow and are never moved to another."""

    address = models.CharField(max_length=42)
    published = WeiField(default=0)
    claimed = WeiField(default=0)

    class Meta:
        indexes = [
            # As it is spelt everywhere, and however somebody else spells it (`iexact`).
            models.Index(fields=["address"], name="ledger_payout_by_address"),
            models.Index(Upper("address"), name="ledger_payout_by_any_case"),
        ]
        constraints = [
            models.UniqueConstraint(Lower("address"), name="ledger_payout_address_once"),
            models.CheckConstraint(
                condition=models.Q(claimed__gte=0)
                & models.Q(claimed__lte=models.F("published"))
                & models.Q(published__lt=2**128),
                name="ledger_payout_claims_what_was_published",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="never_falls",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(new__published__lt=pgtrigger.F("old__published"))
                | pgtrigger.Q(new__claimed__lt=pgtrigger.F("old__claimed")),
            ),
        ]

    def __str__(self) -> str:
        return self.address


class PublishedManager(models.Manager["Distribution"]):
    """All distributions but the one whose earnings are still being gathered."""

    def get_queryset(self) -> models.QuerySet[Distribution]:
        return super().get_queryset().exclude(state=Distribution.State.GATHERING)


class Distribution(Entity):
    """One epoch: a cumulative Merkle root over every address that was ever paid.

    GATHERING: earnings go into escrow, some thousand accounts a transaction; `objects` leaves it
    out, `every` does not. DRAFT: the money lies in escrow, nothing is on its way to a chain (there
    may be none).
    FUNDING: OPEN is on its way to the distributor contract. ROOT_SUBMITTED: the root is.
    ACTIVE: the root is on the chain. FAILED: an intent failed for good; staff start it again.
    """

    class State(models.TextChoices):
        GATHERING = "GATHERING", "Being gathered"
        DRAFT = "DRAFT", "Recorded"
        FUNDING = "FUNDING", "Being funded"
        ROOT_SUBMITTED = "ROOT_SUBMITTED", "Root submitted"
        ACTIVE = "ACTIVE", "Active"
        FAILED = "FAILED", "Failed"

    IN_FLIGHT = (State.FUNDING, State.ROOT_SUBMITTED, State.FAILED)

    epoch = models.PositiveIntegerField(unique=True)
    state = models.CharField(max_length=14, choices=State.choices, default=State.DRAFT)
    amount = WeiField()
    total = WeiField()
    leaf_count = models.PositiveIntegerField()
    # The first of the entries that name this distribution as their cause; most have but one.
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="+")
    # What holds for all accounts of the epoch; the last account that was looked at, and when.
    minimum = WeiField(default=1)
    relay_fee = WeiField(default=0)
    gathered_until = models.UUIDField(null=True, blank=True)
    gathered_at = models.DateTimeField(null=True, blank=True)
    # Set when it starts for a chain: leaves bind the chain's id and the distributor's address.
    chain_id = models.PositiveBigIntegerField(null=True, blank=True)
    distributor = models.CharField(max_length=42, blank=True, default="")
    root = models.CharField(max_length=66, blank=True, default="")
    data_sha256 = models.CharField(max_length=64, blank=True, default="")
    nodes_sha256 = models.CharField(max_length=64, blank=True, default="")
    funding_intent_id = models.UUIDField(null=True, blank=True)
    root_intent_id = models.UUIDField(null=True, blank=True)
    activation_intent_id = models.UUIDField(null=True, blank=True)
    funded_at = models.DateTimeField(null=True, blank=True)
    # Where the contract lets a root wait: from then on anyone may put it in force.
    activates_at = models.DateTimeField(null=True, blank=True)
    active_at = models.DateTimeField(null=True, blank=True)
    failure_reason = models.TextField(blank=True, default="")

    objects = PublishedManager()
    every = models.Manager()

    class Meta:
        ordering = ("-epoch",)
        constraints = [
            models.UniqueConstraint(
                models.Value(1),
                condition=models.Q(state="GATHERING"),
                name="ledger_distribution_one_gathering",
            ),
            # The contract takes epoch = last + 1, so one goes after the other.
            models.UniqueConstraint(
                models.Value(1),
                condition=models.Q(state__in=["FUNDING", "ROOT_SUBMITTED", "FAILED"]),
                name="ledger_distribution_one_in_flight",
            ),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0) & models.Q(total__gte=models.F("amount")),
                name="ledger_distribution_pays_something",
            ),
        ]

    def __str__(self) -> str:
        return f"Distribution {self.epoch}"


class DistributionLeaf(Entity):
    """An address whose leaf changed in an epoch: `amount` was added, `cumulative` is in the tree.

    The tree holds every address that was ever paid; one that got nothing in an epoch has the leaf
    of the last epoch that paid it, so that an epoch's rows are those whom it pays.
    """

    distribution = models.ForeignKey(
        Distribution, on_delete=models.PROTECT, related_name="leaves", db_index=False
    )
    payee = models.ForeignKey(PayoutAddress, on_delete=models.PROTECT, related_name="leaves")
    amount = WeiField()
    cumulative = WeiField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["distribution", "payee"], name="ledger_leaf_once_per_address"
            ),
            models.CheckConstraint(
                condition=models.Q(amount__gt=0) & models.Q(cumulative__gte=models.F("amount")),
                name="ledger_leaf_cumulates",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="keeps_its_amounts",
                fields=["distribution", "payee", "amount", "cumulative"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.payee_id} {self.cumulative}"


class DistributionCredit(Entity):
    """Whose earnings went into which address's leaf; two users on one address give two rows."""

    distribution = models.ForeignKey(
        Distribution, on_delete=models.PROTECT, related_name="credits", db_index=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="distribution_credits"
    )
    payee = models.ForeignKey(PayoutAddress, on_delete=models.PROTECT, related_name="credits")
    amount = WeiField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["distribution", "user"], name="ledger_credit_once_per_user"
            ),
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="ledger_credit_positive"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="is_never_changed", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.amount}"


class Claim(Entity):
    """OPEN that left the distributor for an address, or a request to our relayer to make it so.

    VANISHED: the chain took back, past a final block, that it was paid.
    """

    class State(models.TextChoices):
        REQUESTED = "REQUESTED", "On its way"
        PAID = "PAID", "Paid"
        FAILED = "FAILED", "Failed"
        VANISHED = "VANISHED", "Undone by the chain"

    state = models.CharField(max_length=9, choices=State.choices)
    payee = models.ForeignKey(PayoutAddress, on_delete=models.PROTECT, related_name="claims")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="claims_requested",
    )
    distribution = models.ForeignKey(
        Distribution, null=True, blank=True, on_delete=models.PROTECT, related_name="claims"
    )
    amount = WeiField()
    cumulative = WeiField()
    intent_id = models.UUIDField(null=True, blank=True)
    tx_hash = models.CharField(max_length=66, blank=True, default="")
    log_index = models.PositiveIntegerField(null=True, blank=True)
    entry = models.OneToOneField(
        Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    paid_at = models.DateTimeField(null=True, blank=True)
    failure_reason = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.UniqueConstraint(
                fields=["payee"],
                condition=models.Q(state="REQUESTED"),
                name="ledger_claim_one_request",
            ),
            models.UniqueConstraint(
                fields=["tx_hash", "log_index"],
                condition=~models.Q(tx_hash=""),
                name="ledger_claim_once_per_log",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="PAID") | models.Q(entry__isnull=False),
                name="ledger_claim_paid_by_an_entry",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.amount}"
