"""An adapter that is kept in memory for a time, and what was paid for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from accounts.fields import WeiField
from accounts.models import Entity, User
from serving.models.deployments import Deployment


class PinState(models.TextChoices):
    """REQUESTED: the price is held until a worker has it in memory, which makes it ACTIVE."""

    REQUESTED = "REQUESTED", "Requested"
    ACTIVE = "ACTIVE", "Active"
    ENDED = "ENDED", "Ended"
    FAILED = "FAILED", "Failed"

    @property
    def chip(self) -> str:
        """The colour class of this state on a page; the word itself always stands beside it."""
        return {
            "REQUESTED": "chip--info",
            "ACTIVE": "chip--good",
            "ENDED": "",
            "FAILED": "chip--bad",
        }[self.value]


class PinQuerySet(models.QuerySet["Pin"]):
    def visible_to(self, user: User | AnonymousUser) -> PinQuerySet:
        """Whoever paid sees it, and staff all."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_staff else self.filter(payer=user)

    def current(self) -> PinQuerySet:
        return self.filter(state__in=[PinState.REQUESTED, PinState.ACTIVE])

    def in_force(self, at: datetime) -> PinQuerySet:
        """What workers keep in memory now."""
        return self.filter(Q(state=PinState.REQUESTED) | Q(state=PinState.ACTIVE, until__gt=at))


class Pin(Entity):
    """`fee` wei for `days` from the moment it became ACTIVE; `bytes` is what it was priced by."""

    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="pins")
    payer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="pins"
    )
    state = models.CharField(max_length=9, choices=PinState.choices, default=PinState.REQUESTED)
    days = models.PositiveSmallIntegerField()
    bytes = models.PositiveBigIntegerField()
    fee = WeiField()
    hold_id = models.UUIDField()
    entry_id = models.UUIDField(null=True, blank=True)
    active_at: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        null=True, blank=True
    )
    until: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        null=True, blank=True
    )
    failure_reason = models.CharField(max_length=300, blank=True, default="")
    # The payer and the key of the request that asked for it by API: sent again, it is this one.
    key = models.CharField(max_length=200, null=True, blank=True, unique=True)

    objects: ClassVar[Any] = PinQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["deployment"],
                condition=Q(state__in=["REQUESTED", "ACTIVE"]),
                name="serving_pin_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=["ACTIVE", "ENDED"], entry_id__isnull=False, until__isnull=False
                )
                | Q(state__in=["REQUESTED", "FAILED"], entry_id=None),
                name="serving_pin_paid_once_active",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.pk}"

    @property
    def chip(self) -> str:
        return PinState(self.state).chip
