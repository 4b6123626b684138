"""What is published after a successful run: an adapter with its lineage and evaluation."""

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.fields import WeiField
from accounts.models.base import Entity
from modelfactory.models.bases import BaseModel
from modelfactory.models.runs import Run


class ModelQuerySet(models.QuerySet["Model"]):
    def visible_to(self, user: Any) -> "ModelQuerySet":
        """Published ones, one's own, and for staff all."""
        if user.is_staff:
            return self
        public = Q(state=Model.State.PUBLISHED)
        return self.filter(public | Q(owner=user) if user.is_authenticated else public)

    def published(self) -> "ModelQuerySet":
        return self.filter(state=Model.State.PUBLISHED)


class Model(Entity):
    """`adapter_sha256` names the blob of adapter_model.safetensors. Prices are wei per token."""

    class State(models.TextChoices):
        DRAFT = "DRAFT", "Draft"
        PUBLISHED = "PUBLISHED", "Published"
        TAKEN_DOWN = "TAKEN_DOWN", "Taken down"

        @property
        def chip(self) -> str:
            return {"PUBLISHED": "good", "TAKEN_DOWN": "bad"}.get(self.value, "")

    slug = models.SlugField(max_length=200, unique=True)
    name = models.CharField(max_length=80)
    summary = models.TextField(blank=True, default="", max_length=2_000)
    run = models.OneToOneField(Run, on_delete=models.PROTECT, related_name="model")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="models"
    )
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="models")
    state = models.CharField(max_length=10, choices=State.choices, default=State.DRAFT)
    adapter_sha256 = models.CharField(max_length=64)
    adapter_bytes = models.PositiveBigIntegerField(default=0)
    adapter_config = models.JSONField()
    manifest = models.JSONField()
    manifest_sha256 = models.CharField(max_length=64)
    evaluation = models.JSONField(default=dict)
    licence = models.CharField(max_length=60, blank=True, default="")
    input_price = WeiField(default=0)
    output_price = WeiField(default=0)
    # What part of what the owner keeps of a fee goes to those who staked on the model.
    stakers_bps = models.PositiveSmallIntegerField(default=0)
    # Staff's reason for a takedown.
    statement = models.TextField(blank=True, default="")
    published_at = models.DateTimeField(null=True, blank=True)

    objects = ModelQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "-published_at"], name="model_by_state"),
            models.Index(fields=["owner", "-id"], name="model_by_owner"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(input_price__gte=0) & Q(output_price__gte=0),
                name="model_prices_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(stakers_bps__lte=10_000), name="model_stakers_part_of_whole"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("modelfactory:model", args=[self.slug])

    @property
    def phase(self) -> "Model.State":
        return Model.State(self.state)
