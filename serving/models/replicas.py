"""Servers elsewhere that hold a base: vLLM, or any that speaks the OpenAI API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.models import Entity
from modelfactory.models import BaseModel
from serving.models.deployments import Deployment


class ReplicaKind(models.TextChoices):
    """A vLLM loads adapters when it is told to; another server serves what it was started with."""

    VLLM = "VLLM", "vLLM"
    OPENAI = "OPENAI", "OpenAI-compatible"


class ReplicaState(models.TextChoices):
    """FAILING gets no requests until a check finds it well again."""

    UNCHECKED = "UNCHECKED", "Unchecked"
    HEALTHY = "HEALTHY", "Healthy"
    FAILING = "FAILING", "Failing"

    @property
    def chip(self) -> str:
        """The colour class of this state on a page; the word itself always stands beside it."""
        return {"UNCHECKED": "chip--info", "HEALTHY": "chip--good", "FAILING": "chip--bad"}[
            self.value
        ]


class ReplicaQuerySet(models.QuerySet["Replica"]):
    def usable(self) -> ReplicaQuerySet:
        """Those that are asked; one that was never checked is tried."""
        return self.filter(is_enabled=True).exclude(state=ReplicaState.FAILING)


class Replica(Entity):
    """`sealed_key` is the server's key as `serving.external.secrets` keeps it; no page shows it.

    `served_name` is the base's model id there. `adapter_folder` is where that server sees the
    folder that this house writes adapters into (EXTERNAL_ADAPTER_DIR). `slots` is how many
    requests it answers together, `max_adapters` how many adapters it holds.
    """

    name = models.SlugField(max_length=80, unique=True)
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="replicas")
    kind = models.CharField(max_length=6, choices=ReplicaKind.choices)
    base_url = models.CharField(max_length=300)
    served_name = models.CharField(max_length=300)
    sealed_key = models.TextField(blank=True, default="")
    adapter_folder = models.CharField(max_length=500, blank=True, default="")
    slots = models.PositiveIntegerField(default=32)
    max_adapters = models.PositiveIntegerField(default=8)
    is_enabled = models.BooleanField(default=True)
    state = models.CharField(
        max_length=9, choices=ReplicaState.choices, default=ReplicaState.UNCHECKED
    )
    state_reason = models.CharField(max_length=300, blank=True, default="")
    checked_at = models.DateTimeField(null=True, blank=True)
    answer_ms = models.PositiveIntegerField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    answered = models.PositiveIntegerField(default=0)
    # Answers whose usage was not what we count ourselves; the smaller figure was charged.
    usage_differed = models.PositiveIntegerField(default=0)

    objects: ClassVar[Any] = ReplicaQuerySet.as_manager()

    class Meta:
        ordering = ["base_model", "name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(slots__gte=1, max_adapters__gte=1), name="serving_replica_has_room"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("serving:replica", args=[self.name])

    @property
    def chip(self) -> str:
        return ReplicaState(self.state).chip

    @property
    def has_key(self) -> bool:
        return bool(self.sealed_key)


class ReplicaAdapter(Entity):
    """An adapter that a replica was told to load; the server may have dropped it since."""

    replica = models.ForeignKey(Replica, on_delete=models.CASCADE, related_name="adapters")
    deployment = models.ForeignKey(
        Deployment, null=True, on_delete=models.SET_NULL, related_name="replica_adapters"
    )
    # The content hash, which is its model id there.
    name = models.CharField(max_length=64)
    load_ms = models.PositiveIntegerField(default=0)
    hits = models.PositiveIntegerField(default=0)
    used_at: models.DateTimeField[datetime, datetime] = models.DateTimeField()

    class Meta:
        ordering = ["-used_at"]
        constraints = [
            models.UniqueConstraint(fields=["replica", "name"], name="serving_replicaadapter_one")
        ]

    def __str__(self) -> str:
        return f"{self.name[:12]} on {self.replica_id}"
