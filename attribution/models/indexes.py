"""The index of a model: its records' sketches and its groups' sums, as blobs in the store.

Where a record is withdrawn, the model gets a new index without it; the one before stays as a
`PastIndex`, since receipts name its root.
"""

from django.db import models

from accounts.models.base import Entity, WorkItem
from attribution.influence.config import METHOD_VERSION
from modelfactory.models import Model


class Index(WorkItem):
    """`manifest` is the core's manifest; its root commits to everything that pays."""

    class State(models.TextChoices):
        QUEUED = "QUEUED", "Waiting for a worker"
        BUILDING = "BUILDING", "Being built"
        SPREAD = "SPREAD", "Being built in parts, by all workers that are free"
        GATHERED = "GATHERED", "All parts are made, to be put together"
        MERGING = "MERGING", "Its parts are being put together"
        READY = "READY", "Ready"
        FAILED = "FAILED", "Failed"

        @property
        def chip(self) -> str:
            return {"READY": "good", "FAILED": "bad"}.get(self.value, "info")

        @property
        def is_moving(self) -> bool:
            return self not in (self.READY, self.FAILED)

    model = models.OneToOneField(Model, on_delete=models.PROTECT, related_name="index")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    root = models.CharField(max_length=64, blank=True, default="")
    manifest = models.JSONField(default=dict, blank=True)
    # Of a build in parts: its fingerprint, size and hash of the plan's files, rows of each part,
    # seconds and device of the planning, and how often files of it were lost.
    plan = models.JSONField(default=dict, blank=True, db_default={})
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
    def is_of_earlier_method(self) -> bool:
        """Whether it is ready, and the method of today would make another."""
        if self.state != self.State.READY:
            return False
        return int(self.manifest["header"]["version"]) < METHOD_VERSION

    @property
    def phase(self) -> "Index.State":
        return Index.State(self.state)


class IndexPart(WorkItem):
    """Some of the shards of an index that many workers build; gone when it is ready.

    `files` has name, size, hash and rows of each finished shard in the object store, so that
    whoever takes the part after a worker that died goes on after its last shard, on whichever
    machine. `seconds` are those of the clock in all workers that had it."""

    class State(models.TextChoices):
        QUEUED = "QUEUED", "Waiting for a worker"
        BUILDING = "BUILDING", "Being made"
        READY = "READY", "Made"
        FAILED = "FAILED", "Failed"

        @property
        def chip(self) -> str:
            return {"READY": "good", "FAILED": "bad"}.get(self.value, "info")

    index = models.ForeignKey(Index, on_delete=models.CASCADE, related_name="parts", db_index=False)
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField()
    files = models.JSONField(default=dict, blank=True)
    device = models.CharField(max_length=40, blank=True, default="")
    seconds = models.FloatField(default=0)

    class Meta:
        ordering = ["number"]
        indexes = [models.Index(fields=["state", "lease_expires_at"], name="index_part_by_lease")]
        constraints = [
            models.UniqueConstraint(fields=["index", "number"], name="index_part_once"),
            models.CheckConstraint(
                condition=models.Q(done__lte=models.F("total")), name="index_part_done_of_total"
            ),
            models.CheckConstraint(
                condition=~models.Q(state="READY") | models.Q(done=models.F("total")),
                name="index_part_ready_when_done",
            ),
        ]

    def __str__(self) -> str:
        return f"part {self.number} of {self.index_id}"

    @property
    def phase(self) -> "IndexPart.State":
        return IndexPart.State(self.state)


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

    index = models.ForeignKey(
        Index, on_delete=models.PROTECT, related_name="audits", db_index=False
    )
    holds = models.BooleanField()
    body = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["index", "-id"], name="audit_by_index")]

    def __str__(self) -> str:
        return f"audit of {self.index_id}"
