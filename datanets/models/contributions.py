"""What one person submits at one time: the upload, its check, and the errors of its rows."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.models import Blob
from accounts.models.base import Entity, WorkItem
from datanets.models.datanets import Datanet, Viewer


class UploadState(models.TextChoices):
    OPEN = "OPEN", "Open"
    COMPLETE = "COMPLETE", "Complete"
    CANCELLED = "CANCELLED", "Cancelled"
    EXPIRED = "EXPIRED", "Expired"


class Upload(Entity):
    """A resumable upload. Its bytes are parts in the object store until a worker joins them."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads"
    )
    datanet = models.ForeignKey(Datanet, on_delete=models.CASCADE, related_name="uploads")
    name = models.CharField(max_length=200)
    size = models.BigIntegerField()
    offset = models.BigIntegerField(default=0)
    state = models.CharField(max_length=10, choices=UploadState.choices, default=UploadState.OPEN)
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["user", "-created_at"], name="upload_by_user"),
            models.Index(fields=["datanet", "-created_at"], name="upload_by_datanet"),
            models.Index(
                fields=["expires_at"], condition=Q(state="OPEN"), name="upload_open_by_expiry"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(offset__gte=0) & Q(offset__lte=models.F("size")),
                name="upload_offset_within_size",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.offset}/{self.size})"

    def is_open(self, at: datetime) -> bool:
        """Whether more bytes may come."""
        return self.state == UploadState.OPEN and at < self.expires_at


class UploadPart(Entity):
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="parts")
    offset = models.BigIntegerField()
    size = models.BigIntegerField()
    path = models.CharField(max_length=200)

    class Meta:
        ordering = ["offset"]
        constraints = [
            models.UniqueConstraint(fields=["upload", "offset"], name="upload_part_once")
        ]

    def __str__(self) -> str:
        return self.path


class ContributionState(models.TextChoices):
    """UPLOADED → PREVIEWING → MAPPING → QUEUED → CHECKING → NEEDS_DECISION or READY →
    SUBMISSION_QUEUED → SUBMITTING → SUBMITTED; FAILED and DISCARDED end it."""

    UPLOADED = "UPLOADED", "Uploaded"
    PREVIEWING = "PREVIEWING", "Reading the first rows"
    MAPPING = "MAPPING", "Choose the columns"
    QUEUED = "QUEUED", "Waiting to be checked"
    CHECKING = "CHECKING", "Checking every row"
    NEEDS_DECISION = "NEEDS_DECISION", "Some rows need your decision"
    READY = "READY", "Ready to submit"
    SUBMISSION_QUEUED = "SUBMISSION_QUEUED", "Waiting to be submitted"
    SUBMITTING = "SUBMITTING", "Submitting"
    SUBMITTED = "SUBMITTED", "Submitted"
    FAILED = "FAILED", "Failed"
    DISCARDED = "DISCARDED", "Discarded"

    @property
    def is_moving(self) -> bool:
        """Whether a worker is at it or will be, so that the page asks again."""
        return self in {
            ContributionState.UPLOADED,
            ContributionState.PREVIEWING,
            ContributionState.QUEUED,
            ContributionState.CHECKING,
            ContributionState.SUBMISSION_QUEUED,
            ContributionState.SUBMITTING,
        }

    @property
    def chip(self) -> str:
        """The chip's colour."""
        if self.is_moving:
            return "info"
        return {
            "MAPPING": "warn",
            "NEEDS_DECISION": "warn",
            "READY": "good",
            "SUBMITTED": "good",
            "FAILED": "bad",
        }.get(self.value, "")


# From these a person may choose columns (again), submit, or discard.
MAPPABLE = ("MAPPING", "NEEDS_DECISION", "READY", "FAILED")
SUBMITTABLE = ("NEEDS_DECISION", "READY")
DISCARDABLE = ("MAPPING", "NEEDS_DECISION", "READY", "FAILED")


class ContributionQuerySet(models.QuerySet["Contribution"]):
    def visible_to(self, user: Viewer) -> "ContributionQuerySet":
        """One's own, and those to Datanets that one reviews or owns; for staff all."""
        if user.is_staff:
            return self
        if not user.is_authenticated:
            return self.none()
        reviewed = Datanet.objects.with_role(user, "OWNER", "REVIEWER").values("pk")
        return self.filter(Q(submitter=user) | Q(datanet__in=reviewed, state="SUBMITTED"))


class Contribution(WorkItem):
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="contributions")
    submitter = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="contributions"
    )
    upload = models.OneToOneField(
        Upload, null=True, blank=True, on_delete=models.SET_NULL, related_name="contribution"
    )
    state = models.CharField(
        max_length=20, choices=ContributionState.choices, default=ContributionState.UPLOADED
    )
    name = models.CharField(max_length=200)
    size = models.BigIntegerField()
    licence = models.CharField(max_length=40)
    file = models.ForeignKey(
        Blob, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    preview = models.JSONField(default=dict, blank=True)
    mapping = models.JSONField(default=dict, blank=True)
    rows_read = models.PositiveIntegerField(default=0)
    rows_good = models.PositiveIntegerField(default=0)
    rows_refused = models.PositiveIntegerField(default=0)
    rows_duplicate = models.PositiveIntegerField(default=0)
    # Good rows that say nearly what another record or row says; the first of them by name.
    rows_near = models.PositiveIntegerField(default=0)
    near_rows = models.JSONField(default=list, blank=True)
    # Good rows wait here until the person decides; records exist only after submission.
    good_file = models.ForeignKey(
        Blob, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    rejects = models.ForeignKey(
        Blob, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    failure_code = models.CharField(max_length=40, blank=True, default="")
    submitted_at = models.DateTimeField(null=True, blank=True)

    objects = ContributionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["submitter", "-id"], name="contribution_by_submitter"),
            models.Index(fields=["datanet", "state"], name="contribution_by_datanet"),
            models.Index(fields=["state", "lease_expires_at"], name="contribution_by_lease"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("datanets:contribution", args=[self.pk])

    @property
    def phase(self) -> ContributionState:
        """The state as an enum, for templates."""
        return ContributionState(self.state)

    @property
    def can_be_mapped(self) -> bool:
        """Whether the person may choose columns now."""
        return self.state in MAPPABLE and bool(self.preview.get("columns"))

    @property
    def can_be_retried(self) -> bool:
        """Whether its worker was lost, which says nothing against the file."""
        return self.state == ContributionState.FAILED and self.failure_code == "WORKER"

    @property
    def can_be_submitted(self) -> bool:
        return self.state in SUBMITTABLE and self.rows_good > 0

    @property
    def can_be_discarded(self) -> bool:
        return self.state in DISCARDABLE


class RowError(Entity):
    """Why one row was refused. The first thousand are kept here, all of them in the reject file."""

    contribution = models.ForeignKey(
        Contribution, on_delete=models.CASCADE, related_name="row_errors"
    )
    row = models.PositiveIntegerField()
    column = models.CharField(max_length=300, blank=True, default="")
    code = models.CharField(max_length=40)
    message = models.TextField()

    class Meta:
        ordering = ["row", "id"]
        indexes = [models.Index(fields=["contribution", "row"], name="row_error_by_row")]

    def __str__(self) -> str:
        return f"{self.row}: {self.code}"

    @classmethod
    def of(cls, contribution: Contribution, fault: dict[str, Any]) -> "RowError":
        """An unsaved row out of a fault's plain values."""
        return cls(
            contribution=contribution,
            row=fault["row"],
            column=fault["column"][:300],
            code=fault["code"],
            message=fault["message"],
        )
