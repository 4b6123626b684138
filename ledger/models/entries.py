"""What happened to the money: entries and their postings, written once and never changed."""

import pgtrigger
from django.conf import settings
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity
from ledger.models.accounts import Account

NEVER_CHANGED = pgtrigger.Update | pgtrigger.Delete


class Entry(Entity):
    """A balanced transaction. A mistake is corrected by a second entry that reverses the first.

    `legs` is how many postings belong to it: the deferred trigger below refuses a commit with
    fewer, the one on postings refuses more, and both refuse a sum other than zero.
    """

    class Kind(models.TextChoices):
        DEPOSIT = "DEPOSIT", "Deposit"
        GRANT = "GRANT", "Grant"
        HOLD = "HOLD", "Held"
        CAPTURE = "CAPTURE", "Fee"
        RELEASE = "RELEASE", "Hold released"
        SETTLEMENT = "SETTLEMENT", "Shares of a fee"
        TRANSFER = "TRANSFER", "Earnings made spendable"
        DISTRIBUTION = "DISTRIBUTION", "Published for claiming"
        FUNDING = "FUNDING", "Distribution funded"
        CLAIM = "CLAIM", "Claimed"
        WITHDRAWAL = "WITHDRAWAL", "On its way to a wallet"
        PAYOUT = "PAYOUT", "Paid to a wallet"
        RETURN = "RETURN", "Came back from its way"
        UNDONE = "UNDONE", "Undone by the chain"
        RECOVERY = "RECOVERY", "Owed amount settled"
        RELAY_FEE = "RELAY_FEE", "Relay fee set aside"
        RELAYED = "RELAYED", "Relay fee spent"
        RELAY_BACK = "RELAY_BACK", "Relay fee given back"
        STAKE = "STAKE", "Staked"
        UNSTAKE = "UNSTAKE", "Stake returned"
        SLASH = "SLASH", "Slashed"
        POOLING = "POOLING", "On its way to a stake pool"
        POOLED = "POOLED", "Paid to a stake pool"
        PAID_OUT = "PAID_OUT", "Paid out by its keeper"
        REVERSAL = "REVERSAL", "Reversal"

    kind = models.CharField(max_length=12, choices=Kind.choices)
    idempotency_key = models.CharField(max_length=200, unique=True)
    body_hash = models.CharField(max_length=64)
    legs = models.PositiveIntegerField()
    cause_kind = models.CharField(max_length=40, blank=True, default="")
    cause_id = models.UUIDField(null=True, blank=True)
    parameter_version = models.PositiveIntegerField(null=True, blank=True)
    reverses = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="reversed_by"
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
    )
    effective_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["cause_kind", "cause_id"], name="ledger_entry_by_cause")]
        constraints = [
            models.CheckConstraint(condition=models.Q(legs__gte=2), name="ledger_entry_two_legs"),
        ]
        triggers = [
            pgtrigger.Protect(name="is_never_changed", operation=NEVER_CHANGED),
            pgtrigger.Trigger(
                name="balances",
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                timing=pgtrigger.Deferred,
                declare=[("posted", "bigint"), ("total", "numeric")],
                func="""
                SELECT count(*), coalesce(sum(amount), 0) INTO posted, total
                    FROM ledger_posting WHERE entry_id = NEW.id;
                IF posted <> NEW.legs OR total <> 0 THEN
                    RAISE EXCEPTION 'entry % has % of % postings and a sum of %',
                        NEW.id, posted, NEW.legs, total USING ERRCODE = 'check_violation';
                END IF;
                RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Posting(Entity):
    """One leg of an entry: `amount` wei into (positive) or out of (negative) an account.

    Datanet, model and completion are named by id alone, since their apps stand above this one.
    """

    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="postings")
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="postings", db_index=False
    )
    amount = WeiField()
    datanet_id = models.UUIDField(null=True, blank=True)
    model_id = models.UUIDField(null=True, blank=True)
    completion_id = models.UUIDField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["account", "-id"], name="ledger_posting_by_account")]
        constraints = [
            models.CheckConstraint(condition=~models.Q(amount=0), name="ledger_posting_not_zero"),
        ]
        triggers = [
            pgtrigger.Protect(name="is_never_changed", operation=NEVER_CHANGED),
            # Each entry is counted once, however many legs it has: DISTINCT keeps the planner from
            # counting for each of them. One UPDATE for all legs of the statement; the service holds
            # the row locks already, taken in the order of the ids.
            pgtrigger.Trigger(
                name="moves_balances",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="new_postings"),
                func="""
                IF EXISTS (
                    SELECT 1 FROM (SELECT DISTINCT entry_id FROM new_postings) touched
                    JOIN ledger_entry e ON e.id = touched.entry_id
                    WHERE e.legs < (SELECT count(*) FROM ledger_posting p WHERE p.entry_id = e.id)
                ) THEN
                    RAISE EXCEPTION 'an entry takes no further postings'
                        USING ERRCODE = 'check_violation';
                END IF;
                UPDATE ledger_account a SET balance = a.balance + moved.amount
                    FROM (SELECT account_id, sum(amount) AS amount FROM new_postings
                          GROUP BY account_id) moved
                    WHERE a.id = moved.account_id;
                RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount} → {self.account_id}"
