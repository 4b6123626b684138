"""What a deployment may look up before it answers: the records of its model, by their vectors."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.models.base import Entity, WorkItem
from datanets.models import Record
from serving.models.deployments import Deployment


class RetrievalState(models.TextChoices):
    """OFF keeps no vectors. Only READY puts records into prompts."""

    OFF = "OFF", "Off"
    QUEUED = "QUEUED", "Waiting"
    BUILDING = "BUILDING", "Being built"
    READY = "READY", "On"
    FAILED = "FAILED", "Failed"

    @property
    def chip(self) -> str:
        """The colour class of this state on a page; the word itself always stands beside it."""
        return {
            "OFF": "", "QUEUED": "chip--info", "BUILDING": "chip--info",
            "READY": "chip--good", "FAILED": "chip--bad",
        }[self.value]  # fmt: skip


RETRIEVAL_IN_WORK = (RetrievalState.QUEUED, RetrievalState.BUILDING)


class RetrievalIndex(WorkItem):
    """`encoder` names what made the vectors, by its hash; another's do not compare with them."""

    deployment = models.OneToOneField(
        Deployment, on_delete=models.CASCADE, related_name="retrieval"
    )
    state = models.CharField(
        max_length=8, choices=RetrievalState.choices, default=RetrievalState.OFF
    )
    encoder = models.CharField(max_length=200, blank=True, default="")
    dimensions = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    ready_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(done__lte=models.F("total")), name="serving_retrieval_done_of_total"
            )
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.deployment_id}"

    @property
    def chip(self) -> str:
        return RetrievalState(self.state).chip

    @property
    def is_in_work(self) -> bool:
        return self.state in RETRIEVAL_IN_WORK


class RealField(models.FloatField):
    """Four bytes, as the vectors are computed."""

    def db_type(self, connection: Any) -> str:
        return "real"


class RecordVector(Entity):
    """A record's vector of length 1; `group` is who is paid for it (`attribution.groups`)."""

    index = models.ForeignKey(RetrievalIndex, on_delete=models.CASCADE, related_name="vectors")
    record = models.ForeignKey(Record, on_delete=models.CASCADE, related_name="+")
    group = models.CharField(max_length=120)
    vector = ArrayField(RealField())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["index", "record"], name="serving_vector_record_once")
        ]

    def __str__(self) -> str:
        return str(self.record_id)
