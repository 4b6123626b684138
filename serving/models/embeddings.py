"""Texts as vectors of a base: what was asked, what it cost, and the vectors until fetched."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from accounts.fields import WeiField
from accounts.models import ApiKey, User, WorkItem
from serving.models.deployments import Deployment


class EmbeddingState(models.TextChoices):
    """HELD: the money is set aside."""

    HELD = "HELD", "Held"
    RUNNING = "RUNNING", "Running"
    SUCCEEDED = "SUCCEEDED", "Succeeded"
    FAILED = "FAILED", "Failed"


class EmbeddingQuerySet(models.QuerySet["Embedding"]):
    def visible_to(self, user: User | AnonymousUser) -> EmbeddingQuerySet:
        return self.filter(payer=user) if user.is_authenticated else self.none()


class Embedding(WorkItem):
    """A request for vectors. `fee` wei is known before it runs: tokens read times their price.

    `inputs` (token ids of each text) and `vectors` (float32, little-endian, one after another) are
    kept until the answer was fetched, or for an hour.
    """

    UNFINISHED = (EmbeddingState.HELD, EmbeddingState.RUNNING)

    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="embeddings")
    payer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="embeddings"
    )
    api_key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="embeddings"
    )
    state = models.CharField(
        max_length=9, choices=EmbeddingState.choices, default=EmbeddingState.HELD
    )
    inputs = models.JSONField(default=list)
    vectors = models.BinaryField(null=True)
    dimensions = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveIntegerField()
    input_price = WeiField()
    fee = WeiField()
    hold_id = models.UUIDField(null=True, blank=True)
    entry_id = models.UUIDField(null=True, blank=True)
    finished_at: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        null=True, blank=True
    )

    objects: ClassVar[Any] = EmbeddingQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["payer"],
                name="serving_embedding_unfinished",
                condition=Q(state__in=["HELD", "RUNNING"]),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="SUCCEEDED") | Q(entry_id=None),
                name="serving_embedding_failed_is_not_paid",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.pk}"

    @property
    def is_final(self) -> bool:
        return self.state not in self.UNFINISHED
