"""Who holds how much: one running balance per kind and owner, in several rows where many write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from uuid import UUID

import pgtrigger
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity


class AccountQuerySet(models.QuerySet["Account"]):
    def visible_to(self, user: Any) -> AccountQuerySet:
        """All but what other people may spend or have held; staff see those too."""
        if user.is_staff:
            return self
        private = models.Q(kind__in=Account.PRIVATE)
        own = models.Q(owner_id=user.pk) if user.is_authenticated else models.Q(pk__in=[])
        return self.filter(~private | own)

    def total(self) -> int:
        """What these accounts hold together, in wei; the shards of one account are summed so."""
        return int(self.aggregate(total=models.Sum("balance"))["total"] or 0)


class Account(Entity):
    """An account of the double-entry ledger.

    Positive is what the house owes to the owner. What is held outside (OPEN in a contract) is an
    account of an external kind whose balance is zero or below, so that all balances add up to 0.
    The normal side follows from that: `side` is "credit" for what is owed, "debit" for what is held
    outside; `reconcile` finds an account on the wrong one. Only the debit side may be overdrawn.
    The balance is written by the trigger on postings alone.

    An account that every fee touches would make all fees wait for one row. Those kinds are kept in
    SHARDS rows for each owner; a payment's cause chooses the row, and the account's balance is the
    sum of its rows.
    """

    class Kind(models.TextChoices):
        USER = "USER", "Spendable balance"
        EARNINGS = "EARNINGS", "Earnings"
        PLATFORM = "PLATFORM", "Platform"
        STAKERS = "STAKERS", "Stakers"
        MODEL_STAKES = "MODEL_STAKES", "Stakers of a model"
        TREASURY = "TREASURY", "Datanet treasury"
        SUSPENSE = "SUSPENSE", "Waiting for a receipt"
        HOLD = "HOLD", "Held"
        WITHDRAWING = "WITHDRAWING", "On its way to a wallet"
        RELAY = "RELAY", "Relay fees set aside"
        STAKE = "STAKE", "Staked, at risk of a slash"
        POOLING = "POOLING", "On its way to a stake pool"
        ESCROW = "ESCROW", "Published, not yet claimed"
        UNASSIGNED = "UNASSIGNED", "Deposits to an unknown account"
        GATEWAY = "GATEWAY", "OPEN in the Gateway contract"
        DISTRIBUTOR = "DISTRIBUTOR", "OPEN in the RewardDistributor contract"
        RECEIVABLE = "RECEIVABLE", "Owed to the house"
        ISSUED = "ISSUED", "OPEN issued by an instance without a chain"

    # Sides that stand for something outside the house; everybody else may not go below zero.
    EXTERNAL: ClassVar[frozenset[str]] = frozenset(
        {Kind.GATEWAY, Kind.DISTRIBUTOR, Kind.RECEIVABLE, Kind.ISSUED}
    )
    # Kinds whose owner is a user; the others belong to a Datanet, a completion or the house.
    OF_A_USER: ClassVar[frozenset[str]] = frozenset(
        {Kind.USER, Kind.EARNINGS, Kind.HOLD, Kind.WITHDRAWING, Kind.RECEIVABLE}
    )

    # With the public receipts, the statement of one of these tells who asked what, and when.
    PRIVATE: ClassVar[frozenset[str]] = frozenset(
        {Kind.USER, Kind.HOLD, Kind.WITHDRAWING, Kind.RECEIVABLE}
    )

    # How many rows an account of the kind has at most; the others have one. A number may be raised
    # at any time: which row a payment took is no part of what its key stands for.
    SHARDS: ClassVar[Mapping[str, int]] = {Kind.PLATFORM: 16, Kind.STAKERS: 16, Kind.TREASURY: 4}

    kind = models.CharField(max_length=12, choices=Kind.choices)
    owner_id = models.UUIDField(null=True, blank=True)
    shard = models.PositiveSmallIntegerField(default=0)
    overdraft = models.BooleanField(default=False)
    balance = WeiField(default=0)

    objects = AccountQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "owner_id", "shard"],
                nulls_distinct=False,
                name="ledger_account_once",
            ),
            models.CheckConstraint(
                condition=models.Q(overdraft=True) | models.Q(balance__gte=0),
                name="ledger_account_no_overdraft",
            ),
        ]
        indexes = [
            models.Index(fields=["owner_id"], name="ledger_account_by_owner"),
            # A publication walks through these in the order in which they are locked. The balance
            # stays out of every index, so that a payment need not touch one.
            models.Index(
                fields=["id"],
                condition=models.Q(kind="EARNINGS"),
                name="ledger_account_earnings",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="keeps_its_owner", fields=["id", "kind", "owner_id", "shard", "overdraft"]
            ),
            pgtrigger.Trigger(
                name="opens_empty",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                condition=~pgtrigger.Q(new__balance=0),
                func="RAISE EXCEPTION 'an account opens with a balance of zero'"
                " USING ERRCODE = 'check_violation';",
            ),
            # Depth 1 is this trigger itself: an UPDATE that no posting caused.
            pgtrigger.Trigger(
                name="balance_follows_postings",
                when=pgtrigger.Before,
                operation=pgtrigger.UpdateOf("balance"),
                func="""
                IF pg_trigger_depth() < 2 THEN
                    RAISE EXCEPTION 'a balance is changed by postings alone'
                        USING ERRCODE = 'check_violation';
                END IF;
                RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.owner_id or ''}".strip()

    def is_visible_to(self, user: Any) -> bool:
        """The same as `AccountQuerySet.visible_to`, for a row that is at hand."""
        if self.kind not in self.PRIVATE or user.is_staff:
            return True
        return bool(user.is_authenticated and user.pk == self.owner_id)

    @classmethod
    def shard_for(cls, kind: str, cause_id: UUID | None) -> int:
        """Which row of an account of that kind takes what `cause_id` pays in."""
        count = cls.SHARDS.get(kind, 1)
        return cause_id.int % count if cause_id is not None else 0

    @property
    def is_external(self) -> bool:
        return self.kind in self.EXTERNAL

    @property
    def side(self) -> Literal["credit", "debit"]:
        """The normal side: where the balance stands when all is well."""
        return "debit" if self.is_external else "credit"

    @property
    def shards(self) -> AccountQuerySet:
        """All rows of the account that this row belongs to, itself among them."""
        return Account.objects.filter(kind=self.kind, owner_id=self.owner_id)
