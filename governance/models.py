"""The holders' decisions as mirrored from the chain; every row can be built again from events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity


class ProposalState(models.TextChoices):
    """The eight states of OpenZeppelin's Governor. EXPIRED is never reached with our timelock."""

    PENDING = "PENDING", "Vote not open yet"
    ACTIVE = "ACTIVE", "Vote open"
    CANCELED = "CANCELED", "Taken back"
    DEFEATED = "DEFEATED", "Defeated"
    SUCCEEDED = "SUCCEEDED", "Accepted, to be queued"
    QUEUED = "QUEUED", "Queued"
    EXPIRED = "EXPIRED", "Expired"
    EXECUTED = "EXECUTED", "Executed"

    @property
    def chip(self) -> str:
        """The class of the chip that shows it."""
        return {
            "ACTIVE": "chip--info",
            "SUCCEEDED": "chip--info",
            "QUEUED": "chip--warn",
            "EXECUTED": "chip--good",
            "DEFEATED": "chip--bad",
            "CANCELED": "chip--bad",
            "EXPIRED": "chip--bad",
        }.get(self.value, "")

    @property
    def is_settled(self) -> bool:
        return self.value in ("CANCELED", "DEFEATED", "EXPIRED", "EXECUTED")


class Proposal(Entity):
    """A motion. Times are the chain's, in seconds; what it does now follows from them."""

    class Kind(models.TextChoices):
        SPLIT = "SPLIT", "Fee split"
        VALUE = "VALUE", "Governed values"
        TEXT = "TEXT", "Text"
        OTHER = "OTHER", "Other"

    # 256 bits in decimal, as the contract numbers it.
    number = models.CharField(max_length=78, unique=True)
    kind = models.CharField(max_length=5, choices=Kind.choices)
    proposer = models.CharField(max_length=42)
    title = models.CharField(max_length=200)
    description = models.TextField()
    targets = models.JSONField()
    amounts = models.JSONField()
    calldatas = models.JSONField()
    proposed_at = models.PositiveBigIntegerField()
    snapshot = models.PositiveBigIntegerField()
    deadline = models.PositiveBigIntegerField()
    quorum_percent = models.PositiveSmallIntegerField()
    votes_for = WeiField(default=0)
    votes_against = WeiField(default=0)
    votes_abstain = WeiField(default=0)
    queued_at = models.PositiveBigIntegerField(null=True, blank=True)
    executable_at = models.PositiveBigIntegerField(null=True, blank=True)
    executed_at = models.PositiveBigIntegerField(null=True, blank=True)
    canceled_at = models.PositiveBigIntegerField(null=True, blank=True)
    tx_hash = models.CharField(max_length=66)
    block_number = models.PositiveBigIntegerField()

    class Meta:
        ordering = ("-proposed_at", "-block_number")

    def __str__(self) -> str:
        return self.title

    @property
    def body(self) -> str:
        """The description without the heading that is its title."""
        first, _, rest = self.description.strip().partition("\n")
        return rest.strip() if first.lstrip("#").strip() == self.title else self.description

    def state_at(self, second: int, quorum: int) -> ProposalState:
        """What the Governor says at that second of the chain, given the quorum in wei of GOPEN."""
        if self.executed_at is not None:
            return ProposalState.EXECUTED
        if self.canceled_at is not None:
            return ProposalState.CANCELED
        if second <= self.snapshot:
            return ProposalState.PENDING
        if second <= self.deadline:
            return ProposalState.ACTIVE
        if self.votes_for + self.votes_abstain < quorum or self.votes_for <= self.votes_against:
            return ProposalState.DEFEATED
        return ProposalState.QUEUED if self.queued_at is not None else ProposalState.SUCCEEDED


class Vote(Entity):
    """One holder's say on one proposal."""

    class Support(models.IntegerChoices):
        AGAINST = 0, "Against"
        FOR = 1, "For"
        ABSTAIN = 2, "Abstain"

    proposal = models.ForeignKey(Proposal, on_delete=models.CASCADE, related_name="votes")
    voter = models.CharField(max_length=42)
    support = models.PositiveSmallIntegerField(choices=Support.choices)
    weight = WeiField()
    reason = models.TextField(blank=True, default="")
    voted_at = models.PositiveBigIntegerField()
    tx_hash = models.CharField(max_length=66)

    class Meta:
        ordering = ("-voted_at", "-id")
        constraints = [
            models.UniqueConstraint(fields=["proposal", "voter"], name="governance_vote_once")
        ]

    def __str__(self) -> str:
        return f"{self.voter} {self.get_support_display()}"


class Delegation(Entity):
    """Whom a holder lets vote with their GOPEN."""

    delegator = models.CharField(max_length=42, unique=True)
    delegate = models.CharField(max_length=42, db_index=True)
    since = models.PositiveBigIntegerField()

    def __str__(self) -> str:
        return f"{self.delegator} to {self.delegate}"


class TokenBalance(Entity):
    """GOPEN of an address, in wei."""

    address = models.CharField(max_length=42, unique=True)
    balance = WeiField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(balance__gte=0), name="governance_balance_not_negative"
            )
        ]

    def __str__(self) -> str:
        return f"{self.address} {self.balance}"


class PowerCheckpoint(Entity):
    """The votes of a delegate from a second on; the zero address stands for the whole supply."""

    address = models.CharField(max_length=42)
    second = models.PositiveBigIntegerField()
    votes = WeiField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["address", "second"], name="governance_power_once_a_second"
            )
        ]

    def __str__(self) -> str:
        return f"{self.address} {self.votes}"


class ParameterVersion(Entity):
    """All governed values after one change. It takes effect once its block is final."""

    class State(models.TextChoices):
        SEEN = "SEEN", "In a block"
        IN_FORCE = "IN_FORCE", "In force"

    SPLIT_KEYS: ClassVar[dict[str, str]] = {
        "platform": "split.platform",
        "model_owner": "split.model_owner",
        "stakers": "split.stakers",
        "contributors": "split.contributors",
    }

    version = models.PositiveIntegerField(unique=True)
    # Key to decimal string.
    values = models.JSONField()
    changed = models.JSONField(default=list)
    state = models.CharField(max_length=8, choices=State.choices, default=State.SEEN)
    proposal = models.ForeignKey(
        Proposal, null=True, blank=True, on_delete=models.SET_NULL, related_name="versions"
    )
    block_number = models.PositiveBigIntegerField()
    tx_hash = models.CharField(max_length=66)
    changed_at = models.PositiveBigIntegerField()

    class Meta:
        ordering = ("-version",)

    def __str__(self) -> str:
        return f"Parameters, version {self.version}"


class SettingChange(Entity):
    """A change of a value that another contract keeps: periods, threshold, quorum, delay."""

    key = models.CharField(max_length=60)
    contract = models.CharField(max_length=40)
    previous = models.CharField(max_length=80)
    value = models.CharField(max_length=80)
    proposal = models.ForeignKey(
        Proposal, null=True, blank=True, on_delete=models.SET_NULL, related_name="settings"
    )
    block_number = models.PositiveBigIntegerField()
    log_index = models.PositiveIntegerField()
    tx_hash = models.CharField(max_length=66)
    changed_at = models.PositiveBigIntegerField()

    class Meta:
        ordering = ("-block_number", "-log_index")
        indexes = [models.Index(fields=["key"], name="governance_setting_by_key")]

    def __str__(self) -> str:
        return f"{self.key} = {self.value}"


class MirrorCursor(Entity):
    """The last event that was taken into these tables."""

    chain_id = models.PositiveBigIntegerField(unique=True)
    block_number = models.PositiveBigIntegerField(default=0)
    log_index = models.IntegerField(default=-1)

    def __str__(self) -> str:
        return f"chain {self.chain_id} to {self.block_number}:{self.log_index}"


def moment(second: int | None) -> datetime | None:
    """A second of the chain as a date."""
    return None if second is None else datetime.fromtimestamp(second, UTC)
