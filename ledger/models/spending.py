"""What a person has decided about their own spending: a budget, and topping up from earnings."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models

from accounts.fields import WeiField
from accounts.models.base import Entity


class Budget(Entity):
    """How much a person means to spend in a month of UTC.

    `spent` counts captured fees of `month`, so that a hold need not add up all of them; the sweep
    compares it with the holds themselves.
    """

    # Parts of the limit, in percent, that are told once each in a month.
    MARKS: ClassVar[tuple[int, ...]] = (50, 80, 100)

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="budget"
    )
    limit = WeiField()
    # Refuse what could go over the limit, instead of only telling.
    hard_stop = models.BooleanField(default=False)
    # The first day of the month that `spent` counts.
    month = models.DateField()
    spent = WeiField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(limit__gt=0) & models.Q(spent__gte=0),
                name="ledger_budget_allows_something",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.limit} a month"


class BudgetNotice(Entity):
    """That a person was told of a mark in a month, so that it is told once."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="budget_notices"
    )
    month = models.DateField()
    percent = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "month", "percent"], name="ledger_budget_notice_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.month:%Y-%m}"


class TopUpRule(Entity):
    """When the spendable balance falls below `below`, make `amount` of the earnings spendable.

    Off unless its owner turns it on; at most `monthly_limit` in a month of UTC. It moves the
    owner's own money alone and takes nothing from anywhere else.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="top_up_rule"
    )
    is_on = models.BooleanField(default=False)
    below = WeiField()
    amount = WeiField()
    monthly_limit = WeiField()
    # How often it has moved money: the number of the next move's idempotency key.
    times = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(below__gt=0, amount__gt=0, monthly_limit__gt=0),
                name="ledger_top_up_moves_something",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], name="ledger_top_up_on", condition=models.Q(is_on=True))
        ]

    def __str__(self) -> str:
        return f"{self.amount} below {self.below}"
