"""A receipt's answer scored once more: the wish, the work, and the receipt that came of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pgtrigger
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.models import Blob
from attribution.models.disputes import Dispute, DisputeQuerySet
from attribution.models.receipts import Receipt
from attribution.translog.money import readings


class Rescoring(Dispute):
    """`receipt` is the one that paid, and stays as it is. The new one's body is `public`, under
    this row's id; it names the other by id and hash, tells the difference and moves no money."""

    receipt = models.ForeignKey(Receipt, on_delete=models.PROTECT, related_name="rescorings")
    # "" of several models that answered as one: the body names one of each.
    index_root = models.CharField(max_length=64, blank=True, default="")
    leaf_hash = models.CharField(max_length=64, blank=True, default="")
    private = models.JSONField(default=dict, blank=True)
    sketch = models.ForeignKey(
        Blob, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    objects = DisputeQuerySet.as_manager()

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

    @property
    def readings(self) -> Sequence[Mapping[str, Any]]:
        """What the body says of the model, or of each of several; empty until it is done."""
        return readings(self.public) if self.public else []

    @property
    def index_roots(self) -> list[str]:
        """By which each model was scored; "" where it had none."""
        return [one["index_root"] or "" for one in self.readings]

    @property
    def differs(self) -> bool:
        return any(one["difference"] for one in self.readings)

    @property
    def versions(self) -> str:
        """Of the methods of its indexes, `4` or `4, 5`."""
        found = {str(one["method"]["version"]) for one in self.readings if one["method"]}
        return ", ".join(sorted(found))

    def get_absolute_url(self) -> str:
        return reverse("attribution:rescored", args=[self.pk])
