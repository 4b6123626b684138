"""The chain's mirror: what we want to happen there, and what has happened there.

An intent is written with its cause, in the same transaction; a worker signs, sends and follows it.
Blocks are kept by hash and everything that was read from one hangs on it, so that a reorganisation
takes it away again.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity


class ChainWallet(Entity):
    """An address that we sign for. Its row lock and lease make one process its only writer."""

    chain_id = models.PositiveBigIntegerField()
    address = models.CharField(max_length=42)
    # The nonce of the next transaction to be signed; null until the node was asked.
    next_nonce = models.PositiveBigIntegerField(null=True, blank=True)
    balance = WeiField(default=0)
    lease_owner = models.CharField(max_length=200, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    # What is wrong now, by kind: {"funds": {"text": …, "since": …, "told": …}}.
    alarms = models.JSONField(default=dict, blank=True)
    # The same in one text, for those who only want to know whether something is.
    problem = models.TextField(blank=True, default="")
    checked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["chain_id", "address"], name="ledger_chain_wallet_once")
        ]

    def __str__(self) -> str:
        return f"{self.address} on {self.chain_id}"


class Intent(Entity):
    """One thing that shall happen on the chain, once."""

    class Kind(models.TextChoices):
        FAUCET = "FAUCET", "Deposit from the local faucet"
        FUND = "FUND", "Fund the distributor"
        PUBLISH = "PUBLISH", "Publish a distribution's root"
        CLAIM = "CLAIM", "Relay a claim"
        ANCHOR = "ANCHOR", "Anchor a checkpoint"
        STAKERS = "STAKERS", "Fund a stake pool"
        SLASH = "SLASH", "Propose or execute a slash of a stake"
        WITHDRAW = "WITHDRAW", "Pay withdrawals"
        FILL = "FILL", "Use up a nonce that was left out"

    class State(models.TextChoices):
        NEW = "NEW", "Recorded"
        SIGNED = "SIGNED", "Signed"
        SEEN = "SEEN", "Submitted"
        MINED = "MINED", "In a block"
        SAFE = "SAFE", "Safe"
        FINAL = "FINAL", "Final"
        FAILED = "FAILED", "Failed"

    IN_FLIGHT: ClassVar[tuple[str, ...]] = (State.SIGNED, State.SEEN)
    SETTLED: ClassVar[tuple[str, ...]] = (State.FINAL, State.FAILED)

    kind = models.CharField(max_length=12, choices=Kind.choices)
    # Asked twice for the same key, one intent is written.
    key = models.CharField(max_length=200, unique=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.NEW)
    chain_id = models.PositiveBigIntegerField()
    to = models.CharField(max_length=42)
    data = models.BinaryField()
    value = WeiField(default=0)
    # What leaves the wallet and the Gateway by it; the caps of a transaction and a day count this.
    outflow = WeiField(default=0)
    # The cap that holds it back, in wei, 0 where none does; when staff let it through all the same.
    held_by_cap = WeiField(default=0)
    cap_lifted_at = models.DateTimeField(null=True, blank=True)
    cause_kind = models.CharField(max_length=40, blank=True, default="")
    cause_id = models.UUIDField(null=True, blank=True)
    wallet = models.ForeignKey(
        ChainWallet, null=True, blank=True, on_delete=models.PROTECT, related_name="intents"
    )
    nonce = models.PositiveBigIntegerField(null=True, blank=True)
    gas_limit = models.PositiveBigIntegerField(null=True, blank=True)
    # The call would revert; it is tried again once so many of the wallet's nonces are mined.
    waits_for = models.PositiveBigIntegerField(null=True, blank=True)
    tx_hash = models.CharField(max_length=66, blank=True, default="", db_index=True)
    block_number = models.PositiveBigIntegerField(null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True, default="")
    succeeded = models.BooleanField(null=True, blank=True)
    gas_used = models.PositiveBigIntegerField(null=True, blank=True)
    fee = WeiField(default=0)
    failure_reason = models.TextField(blank=True, default="")
    # The first time: on that day its outflow counts.
    signed_at = models.DateTimeField(null=True, blank=True)
    mined_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(
                fields=["wallet", "nonce"],
                condition=~models.Q(state__in=("FINAL", "FAILED")),
                name="ledger_intent_open",
            ),
            models.Index(
                fields=["chain_id", "id"],
                condition=models.Q(state="NEW"),
                name="ledger_intent_new",
            ),
            models.Index(
                fields=["wallet", "signed_at"],
                condition=models.Q(outflow__gt=0),
                name="ledger_intent_outflow",
            ),
            models.Index(fields=["cause_kind", "cause_id"], name="ledger_intent_by_cause"),
        ]
        constraints = [
            # Two intents with one nonce would be one payment for two causes.
            models.UniqueConstraint(fields=["wallet", "nonce"], name="ledger_intent_one_per_nonce"),
            models.CheckConstraint(
                condition=~models.Q(state__in=("SIGNED", "SEEN", "MINED", "SAFE", "FINAL"))
                | models.Q(nonce__isnull=False),
                name="ledger_intent_signed_has_a_nonce",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.state}"

    @property
    def waits_for_staff(self) -> bool:
        """It moves more than may go out without a person's word."""
        held = self.held_by_cap > 0 and self.cap_lifted_at is None
        return held and self.state == self.State.NEW


class IntentAttempt(Entity):
    """Signed bytes, kept before they are sent; the same bytes go out until one of them is mined."""

    intent = models.ForeignKey(Intent, on_delete=models.CASCADE, related_name="tries")
    nonce = models.PositiveBigIntegerField()
    tx_hash = models.CharField(max_length=66, unique=True)
    raw = models.BinaryField()
    maximum_fee = WeiField()
    priority_fee = WeiField()
    # A transfer of nothing to ourselves: the intent was given up, its nonce must be used all the
    # same.
    noop = models.BooleanField(default=False)
    sent_at = models.DateTimeField(null=True, blank=True)
    # When a node first took it; one that waits long after that offers too little.
    accepted_at = models.DateTimeField(null=True, blank=True)
    times_sent = models.PositiveIntegerField(default=0)
    answer = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("created_at", "id")

    def __str__(self) -> str:
        return self.tx_hash


class ChainHead(Entity):
    """How far a chain was read, and how much of that stands."""

    WINDOW = 512

    chain_id = models.PositiveBigIntegerField(unique=True)
    genesis_hash = models.CharField(max_length=66)
    number = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=66)
    timestamp = models.PositiveBigIntegerField(default=0)
    safe_number = models.PositiveBigIntegerField(default=0)
    final_number = models.PositiveBigIntegerField(default=0)
    problem = models.TextField(blank=True, default="")
    checked_at = models.DateTimeField(null=True, blank=True)
    # Set where the chain took back what was final: nothing is read or sent until staff have looked.
    halted_at = models.DateTimeField(null=True, blank=True)
    halt_reason = models.TextField(blank=True, default="")
    # The last block that both the chain and the mirror have; lifting the halt goes back to it.
    halt_ancestor = models.PositiveBigIntegerField(null=True, blank=True)
    # What is wrong with reading it, since when, and whether staff were told; "" where nothing is.
    trouble = models.TextField(blank=True, default="")
    trouble_since = models.DateTimeField(null=True, blank=True)
    trouble_told = models.BooleanField(default=False)
    # How many blocks the next window of `eth_getLogs` takes, far behind the head.
    window = models.PositiveIntegerField(default=WINDOW)

    def __str__(self) -> str:
        return f"chain {self.chain_id} at {self.number}"

    @property
    def told(self) -> str:
        """What everybody is told is wrong; a node that is away for a moment is no news."""
        if self.problem or not self.trouble_told or self.trouble_since is None:
            return self.problem
        return (
            f"The chain cannot be read since {self.trouble_since:%Y-%m-%d %H:%M} UTC. Deposits and "
            "payments wait, and nothing is lost."
        )


class ChainBlock(Entity):
    """A block that was read: those with our events for ever, the others while they may still go."""

    chain_id = models.PositiveBigIntegerField()
    number = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=66, unique=True)
    parent_hash = models.CharField(max_length=66)
    timestamp = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["chain_id", "number"], name="ledger_chain_block_once")
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.hash}"


class ChainLog(Entity):
    """An event of one of our contracts; integers in `arguments` are decimal strings."""

    block = models.ForeignKey(ChainBlock, on_delete=models.CASCADE, related_name="logs")
    tx_hash = models.CharField(max_length=66, db_index=True)
    log_index = models.PositiveIntegerField()
    contract = models.CharField(max_length=40)
    address = models.CharField(max_length=42)
    event = models.CharField(max_length=60)
    arguments = models.JSONField()
    # When its effect on the ledger was written; null while its block may still go.
    applied_at = models.DateTimeField(null=True, blank=True)
    # Why the ledger could not take it; staff look at it.
    problem = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("block__number", "log_index")
        constraints = [
            models.UniqueConstraint(fields=["block", "log_index"], name="ledger_chain_log_once")
        ]
        indexes = [
            models.Index(fields=["contract", "event"], name="ledger_chain_log_by_event"),
            models.Index(
                fields=["contract"],
                condition=models.Q(applied_at__isnull=True),
                name="ledger_chain_log_waiting",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contract}.{self.event}"

    @property
    def place_in_transaction(self) -> int:
        """Its number among our events of the transaction, from 0.

        Unlike `log_index`, which counts within the block, it stays the same when a reorganisation
        puts the transaction into another block: what is booked once is keyed by this.
        """
        before = ChainLog.objects.filter(block_id=self.block_id, tx_hash=self.tx_hash)
        return before.filter(log_index__lt=self.log_index).count()
