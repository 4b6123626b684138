"""A disputed receipt held against the exact influence: the wish, the work, and what it found."""

from typing import Any

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.models.base import WorkItem
from attribution.models.log import LogLeaf
from attribution.models.receipts import Receipt


class ExactAuditQuerySet(models.QuerySet["ExactAudit"]):
    def visible_to(self, user: Any) -> "ExactAuditQuerySet":
        """What is done is public, as every receipt; what is not, is for who may ask for it."""
        mine = Receipt.objects.private_to(user).values("pk")
        return self.filter(Q(state=ExactAudit.State.DONE) | Q(receipt__in=mine))


class ExactAudit(WorkItem):
    """`public` is the body that the log was told, under this row's id. It moves no money."""

    class State(models.TextChoices):
        QUEUED = "QUEUED", "Waiting"
        RUNNING = "RUNNING", "Being computed"
        DONE = "DONE", "Done"
        FAILED = "FAILED", "Failed"

        @property
        def chip(self) -> str:
            return {"DONE": "chip--good", "FAILED": "chip--bad"}.get(self.value, "chip--info")

    receipt = models.ForeignKey(Receipt, on_delete=models.PROTECT, related_name="exact_audits")
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    asked_as = models.CharField(
        max_length=12,
        choices=[("payer", "Payer"), ("contributor", "Contributor"), ("staff", "Staff")],
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    # Steps of the replay and of the way back.
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    public = models.JSONField(default=dict, blank=True)
    body_sha256 = models.CharField(max_length=64, blank=True, default="")
    at = models.DateTimeField(null=True, blank=True)

    objects = ExactAuditQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "lease_expires_at"], name="exact_by_lease")]
        constraints = [
            models.UniqueConstraint(
                fields=["receipt"],
                condition=~Q(state="FAILED"),
                name="exact_audit_once_a_receipt",
            ),
            models.UniqueConstraint(
                fields=["asked_by"],
                condition=Q(state__in=["QUEUED", "RUNNING"]),
                name="exact_audit_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(state="DONE") | (~Q(body_sha256="") & Q(at__isnull=False)),
                name="exact_audit_done_with_a_body",
            ),
        ]
        triggers = [
            pgtrigger.Protect(
                name="exact_audit_is_never_deleted",
                operation=pgtrigger.Delete,
                condition=pgtrigger.Q(old__state="DONE"),
            ),
            pgtrigger.Protect(
                name="exact_audit_stays",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state="DONE"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} of {self.receipt_id}"

    def get_absolute_url(self) -> str:
        return reverse("attribution:exact", args=[self.pk])

    @property
    def phase(self) -> "ExactAudit.State":
        return ExactAudit.State(self.state)

    @property
    def is_done(self) -> bool:
        return self.state == self.State.DONE

    @property
    def is_waiting(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)

    @property
    def log_index(self) -> int | None:
        """Its place in the log; None while it waits for the sequencer."""
        return LogLeaf.objects.filter(receipt_id=self.pk).values_list("index", flat=True).first()
