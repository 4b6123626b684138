"""Where a version's words stand: its span index, and the passages of answers that stand in it."""

from typing import Any

from django.conf import settings
from django.db import models

from accounts.models.base import Entity, WorkItem
from attribution.models.receipts import Receipt
from datanets.models import Record, Version
from modelfactory.models import BaseModel


class SpanIndex(WorkItem):
    """A version's records as a base model reads them, by suffix. `manifest` is the core's."""

    class State(models.TextChoices):
        QUEUED = "QUEUED", "Waiting for a worker"
        BUILDING = "BUILDING", "Being built"
        READY = "READY", "Ready"
        FAILED = "FAILED", "Failed"

    version = models.ForeignKey(
        Version, on_delete=models.PROTECT, related_name="span_indexes", db_index=False
    )
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="span_indexes")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    root = models.CharField(max_length=64, blank=True, default="")
    manifest = models.JSONField(default=dict, blank=True)
    seconds = models.FloatField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "lease_expires_at"], name="span_index_by_lease"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["version", "base_model"], name="span_index_once_per_version"
            ),
            models.CheckConstraint(
                condition=~models.Q(state="READY") | ~models.Q(root=""),
                name="span_index_ready_with_root",
            ),
        ]

    def __str__(self) -> str:
        return f"spans of {self.version_id}"

    @property
    def is_moving(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.BUILDING)


class PassageQuerySet(models.QuerySet["Passage"]):
    def standing(self) -> "PassageQuerySet":
        """Those with a record left whose text may be shown."""
        kept = PassageRecord.objects.standing().filter(passage=models.OuterRef("pk"))
        return self.filter(models.Exists(kept))


class Passage(Entity):
    """Characters `start` to `end` of an answer, which stand verbatim in records.

    `places` counts where they stand in all versions that the model learnt from. The text is the
    records' own: it goes with the last of them.
    """

    receipt = models.ForeignKey(
        Receipt, on_delete=models.CASCADE, related_name="passages", db_index=False
    )
    rank = models.PositiveSmallIntegerField()
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    tokens = models.PositiveIntegerField()
    places = models.PositiveBigIntegerField()
    text = models.TextField()

    objects = PassageQuerySet.as_manager()

    class Meta:
        ordering = ["rank"]
        constraints = [
            models.UniqueConstraint(fields=["receipt", "rank"], name="passage_rank_once"),
            models.CheckConstraint(
                condition=models.Q(end__gt=models.F("start")), name="passage_is_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.start} to {self.end}"


class PassageRecordQuerySet(models.QuerySet["PassageRecord"]):
    def standing(self) -> "PassageRecordQuerySet":
        """Without the records that were withdrawn or taken down since."""
        gone: Any = Record.objects.withheld().values("pk")
        return self.exclude(record__in=gone)


class PassageRecord(Entity):
    """A record that holds a passage."""

    passage = models.ForeignKey(
        Passage, on_delete=models.CASCADE, related_name="records", db_index=False
    )
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="passages")
    contributor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )

    objects = PassageRecordQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["passage", "record"], name="passage_record_once")
        ]

    def __str__(self) -> str:
        return f"{self.passage_id} in {self.record_id}"
