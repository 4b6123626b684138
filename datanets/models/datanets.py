"""A Datanet and the people who have a role in it."""

from typing import Any

import pgtrigger
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse

from accounts.fields import WeiField
from accounts.models import User
from accounts.models.base import Entity
from datanets.licences import LICENCES, Licence

Viewer = Any  # User or AnonymousUser, as a request carries it


class DatanetState(models.TextChoices):
    DRAFT = "DRAFT", "Draft"
    IN_REVIEW = "IN_REVIEW", "In review"
    PUBLISHED = "PUBLISHED", "Published"
    TAKEN_DOWN = "TAKEN_DOWN", "Taken down"

    @property
    def chip(self) -> str:
        """The chip's colour."""
        return {"PUBLISHED": "good", "IN_REVIEW": "info", "TAKEN_DOWN": "bad"}.get(self.value, "")


class DataType(models.TextChoices):
    TEXT = "TEXT", "Text"


class Role(models.TextChoices):
    """What a member may do; each role is a row of its own, so one person may hold several."""

    OWNER = "OWNER", "Owner"
    REVIEWER = "REVIEWER", "Reviewer"
    BUILDER = "BUILDER", "Builder"
    CONTRIBUTOR = "CONTRIBUTOR", "Contributor"

    @property
    def explanation(self) -> str:
        """One sentence for the people tab."""
        return {
            "OWNER": "edits, reviews, publishes and names people",
            "REVIEWER": "accepts and rejects records",
            "BUILDER": "may train on it before it is published",
            "CONTRIBUTOR": "brings records",
        }[self.value]


class DatanetQuerySet(models.QuerySet["Datanet"]):
    def visible_to(self, user: Viewer) -> "DatanetQuerySet":
        """Published ones, those where the user is a member, and for staff all."""
        if user.is_staff:
            return self
        published = Q(state=DatanetState.PUBLISHED)
        if not user.is_authenticated:
            return self.filter(published)
        member = Membership.objects.filter(datanet=OuterRef("pk"), user=user)
        return self.filter(published | Q(Exists(member)))

    def with_role(self, user: Viewer, *roles: str) -> "DatanetQuerySet":
        """Those where the user holds one of the roles."""
        if not user.is_authenticated:
            return self.none()
        held = Membership.objects.filter(datanet=OuterRef("pk"), user=user, role__in=roles)
        return self.filter(Exists(held))

    def usable_by(self, user: Viewer) -> "DatanetQuerySet":
        """Those whose versions the user may train on: not taken down, visible to the user."""
        return self.visible_to(user).exclude(state=DatanetState.TAKEN_DOWN)


class Datanet(Entity):
    """A specialised dataset that a community owns, with rules, a licence and roles."""

    slug = models.SlugField(max_length=80, unique=True)
    name = models.CharField(max_length=80)
    summary = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="", max_length=50_000)
    rules = models.TextField(blank=True, default="", max_length=20_000)
    tags = ArrayField(models.CharField(max_length=30), default=list, blank=True, size=10)
    licence = models.CharField(max_length=40)
    data_type = models.CharField(max_length=8, choices=DataType.choices, default=DataType.TEXT)
    state = models.CharField(
        max_length=12, choices=DatanetState.choices, default=DatanetState.DRAFT
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="owned_datanets"
    )
    # The version whose records it began with. Set when it is made and never after, so that no
    # Datanet can come to descend from itself.
    derived_from = models.ForeignKey(
        "datanets.Version",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="derived_datanets",
    )
    # What each contribution is submitted with, in wei; 0 where no stake is asked.
    stake_amount = WeiField(default=0)
    # Why staff sent it back or took it down; shown to the owner, the latter to everyone.
    statement = models.TextField(blank=True, default="")
    state_changed_at = models.DateTimeField(null=True, blank=True)
    published_at = models.DateTimeField(null=True, blank=True)

    objects = DatanetQuerySet.as_manager()

    class Meta:
        ordering = ["-published_at", "-id"]
        indexes = [models.Index(fields=["state", "-published_at"], name="datanet_by_state")]
        triggers = [pgtrigger.ReadOnly(name="keeps_its_parent", fields=["derived_from"])]
        constraints = [
            models.CheckConstraint(
                condition=Q(stake_amount__gte=0), name="datanet_stake_not_negative"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("datanets:card", args=[self.slug])

    @property
    def state_chip(self) -> str:
        """The chip's colour."""
        return DatanetState(self.state).chip

    @property
    def licence_facts(self) -> Licence | None:
        """What the licence allows; None for one that is no longer offered."""
        return LICENCES.get(self.licence)


class Membership(Entity):
    datanet = models.ForeignKey(Datanet, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="datanet_memberships")
    role = models.CharField(max_length=12, choices=Role.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["datanet", "user", "role"], name="membership_once_per_role"
            ),
            models.UniqueConstraint(
                fields=["datanet"], condition=Q(role="OWNER"), name="membership_one_owner"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.role}"
