"""The index of a model: its records' sketches and its groups' sums, as blobs in the store.

Where a record is withdrawn, the model gets a new index without it; the one before stays as a
`PastIndex`, since receipts name its root.
"""

from django.db import models

from accounts.models.base import Entity, WorkItem
from modelfactory.models import Model


class Index(WorkItem):
    """`manifest` is the core's manifest; its root commits to everything that pays."""

    class State(models.TextChoices):
        QUEUED = "QUEUED", "Waiting for a worker"
        BUILDING = "BUILDING", "Being built"
        READY = "READY", "Ready"
        FAILED = "FAILED", "Failed"

        @property
        def chip(self) -> str:
            return {"READY": "good", "FAILED": "bad"}.get(self.value, "info")

    model = models.OneToOneField(Model, on_delete=models.PROTECT, related_name="index")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    root = models.CharField(max_length=64, blank=True, default="")
    manifest = models.JSONField(default=dict, blank=True)
    device = models.CharField(max_length=40, blank=True, default="")
    seconds = models.FloatField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "lease_expires_at"], name="attribution_index_by_lease"),
            models.Index(fields=["root"], name="attribution_index_by_root"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(state="READY") | ~models.Q(root=""),
                name="attribution_index_ready_with_root",
            )
        ]

    def __str__(self) -> str:
        return f"index of {self.model_id}"

    @property
    def phase(self) -> "Index.State":
        return Index.State(self.state)


class PastIndex(Entity):
    """What a model's index was until another took its place. Its files stay for whoever settles a
    dispute about an older receipt; nobody can download them, as they hold what was withdrawn."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="past_indexes")
    root = models.CharField(max_length=64, unique=True)
    manifest = models.JSONField()
    device = models.CharField(max_length=40, blank=True, default="")
    seconds = models.FloatField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    replaced_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"past index of {self.model_id}"


class IndexAudit(Entity):
    """Gradients of records drawn at random, computed once more; `body` is what the log was told."""

    index = models.ForeignKey(Index, on_delete=models.PROTECT, related_name="audits")
    holds = models.BooleanField()
    body = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["index", "-id"], name="audit_by_index")]

    def __str__(self) -> str:
        return f"audit of {self.index_id}"
