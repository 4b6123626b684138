"""A disputed receipt held against the exact influence: the wish, the work, and what it found."""

import pgtrigger
from django.db import models
from django.db.models import Q
from django.urls import reverse

from attribution.models.disputes import Dispute, DisputeQuerySet
from attribution.models.receipts import Receipt


class ExactAudit(Dispute):
    """Both shares of everybody: the receipt's and those of the exact influence."""

    receipt = models.ForeignKey(Receipt, on_delete=models.PROTECT, related_name="exact_audits")
    # Steps of the replay and of the way back.
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)

    objects = DisputeQuerySet.as_manager()

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
