"""A model that is being served: an adapter on its base, or the base alone."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.fields import WeiField
from accounts.models import User, WorkItem
from modelfactory.models import BaseModel, Model

Viewer = User | AnonymousUser


class DeploymentState(models.TextChoices):
    """REQUESTED while a worker loads and checks it, LIVE when it answers, STOPPED when not."""

    REQUESTED = "REQUESTED", "Requested"
    LIVE = "LIVE", "Live"
    STOPPED = "STOPPED", "Stopped"

    @property
    def chip(self) -> str:
        """The colour class of this state on a page; the word itself always stands beside it."""
        return {"REQUESTED": "chip--info", "LIVE": "chip--good", "STOPPED": ""}[self.value]


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def visible_to(self, user: Viewer) -> DeploymentQuerySet:
        """Bases and published models to everybody, a draft model to its owner, and to staff all."""
        if user.is_authenticated and user.is_staff:
            return self
        open_to_all = Q(model=None) | Q(model__state="PUBLISHED")
        if not user.is_authenticated:
            return self.filter(open_to_all)
        return self.filter(open_to_all | Q(owner=user) & ~Q(model__state="TAKEN_DOWN"))

    def usable_by(self, user: Viewer) -> DeploymentQuerySet:
        """Those that answer this person now; a model that was taken down answers nobody."""
        return (
            self.visible_to(user)
            .filter(state=DeploymentState.LIVE)
            .filter(Q(model=None) | ~Q(model__state="TAKEN_DOWN"))
        )

    def with_parts(self) -> DeploymentQuerySet:
        return self.select_related("model", "base_model", "owner", "retrieval")


class Deployment(WorkItem):
    """`name` is the model id of the API. The owner of a base's deployment is the house (null).

    Prices are wei per token. The lease is that of the worker that loads it while REQUESTED.
    """

    name = models.SlugField(max_length=200, unique=True)
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="deployments")
    model = models.OneToOneField(
        Model, null=True, blank=True, on_delete=models.PROTECT, related_name="deployment"
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="deployments",
    )
    state = models.CharField(
        max_length=10, choices=DeploymentState.choices, default=DeploymentState.REQUESTED
    )
    input_price = WeiField()
    output_price = WeiField()
    live_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = DeploymentQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(input_price__gte=0, output_price__gte=0),
                name="serving_deployment_prices_not_negative",
            ),
            models.UniqueConstraint(
                fields=["base_model"],
                condition=Q(model=None),
                name="serving_deployment_one_of_a_base",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("serving:deployment", args=[self.name])

    @property
    def queue(self) -> str:
        """The Celery queue whose workers hold this deployment's base."""
        return f"generate.{self.base_model.slug}"

    @property
    def chip(self) -> str:
        return DeploymentState(self.state).chip

    def may_be_changed_by(self, user: Viewer) -> bool:
        """The owner and staff set the price and stop it."""
        return user.is_authenticated and (user.is_staff or user.pk == self.owner_id)
