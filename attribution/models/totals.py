"""What was credited since the beginning, added up: a leaderboard does not read every row."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.fields import WeiField
from accounts.models.base import Entity
from datanets.models import Datanet
from modelfactory.models import Model


class CreditHorizon(models.Model):
    """One row: totals hold the receipts and refunds that were written up to `until`."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="credit_horizon_is_one")]

    def __str__(self) -> str:
        return f"until {self.until}"


class CreditTotal(Entity):
    """Wei that a contributor, a Datanet or a model was credited with, less what passed on to
    ancestors and what was given back; and in how many answers."""

    contributor = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    datanet = models.OneToOneField(
        Datanet, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    model = models.OneToOneField(
        Model, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    amount = WeiField(default=0)
    answers = models.PositiveBigIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(
                fields=["-amount"],
                condition=Q(**{f"{kind}__isnull": False}),
                name=f"total_of_{kind}",
            )
            for kind in ("contributor", "datanet", "model")
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(contributor__isnull=False, datanet=None, model=None)
                | Q(contributor=None, datanet__isnull=False, model=None)
                | Q(contributor=None, datanet=None, model__isnull=False),
                name="credit_total_is_of_one",
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount} in {self.answers}"
