"""Stake pools as the chain has them, and the money that is on its way to them.

But for fundings, every row can be built again from the contract's events.
"""

from typing import ClassVar

import pgtrigger
from django.conf import settings
from django.db import models
from django.urls import reverse

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.chain.pools import Stream, grown
from ledger.models.accounts import Account
from ledger.models.entries import Entry


class StakePool(Entity):
    class Kind(models.TextChoices):
        FLEXIBLE = "FLEXIBLE", "Flexible"
        LOCKED = "LOCKED", "Locked"

    # bytes32 as 0x…: a name in ASCII, or a model's UUID at the right.
    pool_id = models.CharField(max_length=66, unique=True)
    name = models.CharField(max_length=32, blank=True, default="")
    model_id = models.UUIDField(null=True, blank=True, unique=True)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    closed = models.BooleanField(default=False)
    # Seconds: the cooldown or the term, and how long a funding streams.
    wait = models.PositiveBigIntegerField()
    period = models.PositiveBigIntegerField()
    staked = WeiField(default=0)
    rewards = WeiField(default=0)
    left = WeiField(default=0)
    rate = WeiField(default=0)
    index = WeiField(default=0)
    updated_at = models.PositiveBigIntegerField()

    class Meta:
        ordering = ("model_id", "id")

    def __str__(self) -> str:
        return self.name or f"pool of model {self.model_id}"

    @property
    def stream(self) -> Stream:
        return Stream(self.staked, self.left, self.rate, self.index, self.updated_at)


class StakePosition(Entity):
    """What one address has in one pool, as it was settled last."""

    pool = models.ForeignKey(StakePool, on_delete=models.CASCADE, related_name="positions")
    address = models.CharField(max_length=42)
    staked = WeiField(default=0)
    cooling = WeiField(default=0)
    earned = WeiField(default=0)
    claimed = WeiField(default=0)
    index = WeiField(default=0)
    releases_at = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ("pool", "id")
        constraints = [
            models.UniqueConstraint(fields=["pool", "address"], name="ledger_position_once")
        ]
        indexes = [models.Index(fields=["address"], name="ledger_position_by_address")]

    def __str__(self) -> str:
        return f"{self.address} in {self.pool}"

    def earned_at(self, second: int) -> int:
        """What may be collected at a second of the chain, in wei."""
        return self.earned + grown(self.staked, self.pool.stream.at(second).index, self.index)


class PoolSlash(Entity):
    """A slash of a stake in a pool: its share, its evidence, its window."""

    class State(models.TextChoices):
        PROPOSED = "PROPOSED", "Proposed, may be appealed"
        APPEALED = "APPEALED", "Appealed"
        EXECUTED = "EXECUTED", "Executed"
        CANCELED = "CANCELED", "Called off"

    OPEN: ClassVar[tuple[str, ...]] = (State.PROPOSED, State.APPEALED)

    number = models.PositiveBigIntegerField(unique=True)
    position = models.ForeignKey(StakePosition, on_delete=models.CASCADE, related_name="slashes")
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    share = models.PositiveIntegerField()
    amount = WeiField()
    bond = WeiField()
    # SHA-256 of the files that say why, and why not.
    evidence = models.CharField(max_length=66)
    statement = models.CharField(max_length=66, blank=True, default="")
    executable_at = models.PositiveBigIntegerField()
    tx_hash = models.CharField(max_length=66)

    class Meta:
        ordering = ("-number",)

    def __str__(self) -> str:
        return f"Slash {self.number} {self.state}"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN

    def get_absolute_url(self) -> str:
        return reverse("ledger:pool_slash", args=[self.number])


class SlashFile(Entity):
    """The words behind a hash that a slash of a pool's stake names on the chain.

    `body` is the file: its SHA-256 is what the chain has. It is written before the chain is asked,
    and stays whatever becomes of the slash.
    """

    class Kind(models.TextChoices):
        EVIDENCE = "EVIDENCE", "Evidence"
        STATEMENT = "STATEMENT", "Statement of an appeal"

    kind = models.CharField(max_length=9, choices=Kind.choices)
    # 0x… as the chain's events have it.
    sha256 = models.CharField(max_length=66, unique=True)
    body = models.TextField()
    words = models.TextField()
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="slash_files"
    )
    pool_id = models.CharField(max_length=66)
    address = models.CharField(max_length=42)
    # Of evidence: the share in basis points, and the intent that proposes it on the chain.
    share = models.PositiveIntegerField(null=True, blank=True)
    intent_id = models.UUIDField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index(fields=["pool_id", "address"], name="ledger_slash_file_of_stake")]
        triggers = [
            pgtrigger.Protect(
                name="slash_file_is_fixed", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.sha256}"


class PoolMirror(Entity):
    """How far the events were taken in, what was slashed, and the last look at the contract."""

    chain_id = models.PositiveBigIntegerField(unique=True)
    block_number = models.PositiveBigIntegerField(default=0)
    log_index = models.IntegerField(default=-1)
    # What was slashed and lies in the contract still, in wei.
    slashed = WeiField(default=0)
    checked_at = models.DateTimeField(null=True, blank=True)
    checked_held = WeiField(default=0)
    checked_owed = WeiField(default=0)

    def __str__(self) -> str:
        return f"chain {self.chain_id} to {self.block_number}:{self.log_index}"


class PoolFunding(Entity):
    """Fees of stakers on their way to a pool; the id is the Gateway's batch id."""

    class State(models.TextChoices):
        UNDER_WAY = "UNDER_WAY", "On its way"
        PAID = "PAID", "Paid"
        FAILED = "FAILED", "Failed, the money is back"

    OPEN: ClassVar[tuple[str, ...]] = (State.UNDER_WAY,)

    state = models.CharField(max_length=9, choices=State.choices, default=State.UNDER_WAY)
    # The account that it comes from: all stakers', or those of one model.
    source_kind = models.CharField(max_length=12, choices=Account.Kind.choices)
    source_owner = models.UUIDField(null=True, blank=True)
    pool_id = models.CharField(max_length=66)
    amount = WeiField()
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="+")
    # The entry that ended it: paid, or given back to where it came from.
    closed_by = models.OneToOneField(
        Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    intent_id = models.UUIDField()
    failure_reason = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index(fields=["pool_id", "-created_at"], name="ledger_funding_by_pool")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(amount__gt=0), name="ledger_funding_pays_something"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    state="UNDER_WAY", closed_by__isnull=True, closed_at__isnull=True
                )
                | models.Q(
                    state__in=["PAID", "FAILED"], closed_by__isnull=False, closed_at__isnull=False
                ),
                name="ledger_funding_closed_by_an_entry",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.amount} to {self.pool_id}"
