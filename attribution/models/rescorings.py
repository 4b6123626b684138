"""A receipt's answer scored once more: the wish, the work, and the receipt that came of it."""

from typing import Any

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.models import Blob
from accounts.models.base import WorkItem
from attribution.models.log import LogLeaf
from attribution.models.receipts import Receipt


class RescoringQuerySet(models.QuerySet["Rescoring"]):
    def private_to(self, user: Any) -> "RescoringQuerySet":
        """Those whose private part `user` may read: who may read that of the receipt."""
        return self.filter(receipt__in=Receipt.objects.private_to(user).values("pk"))

    def visible_to(self, user: Any) -> "RescoringQuerySet":
        """What is done is public, as every receipt; what is not, is for who may ask for it."""
        mine = Receipt.objects.private_to(user).values("pk")
        return self.filter(Q(state=Rescoring.State.DONE) | Q(receipt__in=mine))


class Rescoring(WorkItem):
    """`receipt` is the one that paid, and stays as it is. The new one's body is `public`, under
    this row's id; it names the other by id and hash, tells the difference and moves no money."""

    class State(models.TextChoices):
        QUEUED = "QUEUED", "Waiting"
        RUNNING = "RUNNING", "Being computed"
        DONE = "DONE", "Done"
        FAILED = "FAILED", "Failed"

        @property
        def chip(self) -> str:
            return {"DONE": "chip--good", "FAILED": "chip--bad"}.get(self.value, "chip--info")

    receipt = models.ForeignKey(Receipt, on_delete=models.PROTECT, related_name="rescorings")
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    # As what: the person's name is nobody else's business.
    asked_as = models.CharField(
        max_length=12,
        choices=[("payer", "Payer"), ("contributor", "Contributor"), ("staff", "Staff")],
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    index_root = models.CharField(max_length=64, blank=True, default="")
    public = models.JSONField(default=dict, blank=True)
    body_sha256 = models.CharField(max_length=64, blank=True, default="")
    leaf_hash = models.CharField(max_length=64, blank=True, default="")
    private = models.JSONField(default=dict, blank=True)
    sketch = models.ForeignKey(
        Blob, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    at = models.DateTimeField(null=True, blank=True)

    objects = RescoringQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "lease_expires_at"], name="rescoring_by_lease"),
            models.Index(fields=["leaf_hash"], name="rescoring_by_leaf"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["receipt"],
                condition=Q(state__in=["QUEUED", "RUNNING"]),
                name="rescoring_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(state="DONE") | (~Q(body_sha256="") & Q(at__isnull=False)),
                name="rescoring_done_with_a_body",
            ),
        ]
        triggers = [
            pgtrigger.Protect(
                name="rescored_is_never_deleted",
                operation=pgtrigger.Delete,
                condition=pgtrigger.Q(old__state="DONE"),
            ),
            pgtrigger.Protect(
                name="rescored_body_stays",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state="DONE")
                & (
                    ~pgtrigger.Q(new__state="DONE")
                    | pgtrigger.Q(old__receipt__df=pgtrigger.F("new__receipt"))
                    | pgtrigger.Q(old__public__df=pgtrigger.F("new__public"))
                    | pgtrigger.Q(old__body_sha256__df=pgtrigger.F("new__body_sha256"))
                    | pgtrigger.Q(old__leaf_hash__df=pgtrigger.F("new__leaf_hash"))
                    | pgtrigger.Q(old__at__df=pgtrigger.F("new__at"))
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} of {self.receipt_id}"

    def get_absolute_url(self) -> str:
        return reverse("attribution:rescored", args=[self.pk])

    @property
    def phase(self) -> "Rescoring.State":
        return Rescoring.State(self.state)

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
