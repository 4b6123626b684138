"""What a party who doubts a receipt asks for: the wish, the work, and the body it comes to."""

from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models.base import WorkItem
from attribution.models.log import LogLeaf
from attribution.models.receipts import Receipt


class DisputeState(models.TextChoices):
    QUEUED = "QUEUED", "Waiting"
    RUNNING = "RUNNING", "Being computed"
    DONE = "DONE", "Done"
    FAILED = "FAILED", "Failed"

    @property
    def chip(self) -> str:
        return {"DONE": "chip--good", "FAILED": "chip--bad"}.get(self.value, "chip--info")


class DisputeQuerySet(models.QuerySet[Any]):
    def private_to(self, user: Any) -> Self:
        """Those whose private part `user` may read: who may read that of the receipt."""
        return self.filter(receipt__in=Receipt.objects.private_to(user).values("pk"))

    def visible_to(self, user: Any) -> Self:
        """What is done is public, as every receipt; what is not, is for who may ask for it."""
        mine = Receipt.objects.private_to(user).values("pk")
        return self.filter(Q(state=DisputeState.DONE) | Q(receipt__in=mine))


class Dispute(WorkItem):
    """`public` is the body that the log was told, under this row's id. It moves no money."""

    State = DisputeState

    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    # As what: the person's name is nobody else's business.
    asked_as = models.CharField(
        max_length=12,
        choices=[("payer", "Payer"), ("contributor", "Contributor"), ("staff", "Staff")],
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    public = models.JSONField(default=dict, blank=True)
    body_sha256 = models.CharField(max_length=64, blank=True, default="")
    at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def phase(self) -> DisputeState:
        return DisputeState(self.state)

    @property
    def is_done(self) -> bool:
        return self.state == DisputeState.DONE

    @property
    def is_waiting(self) -> bool:
        return self.state in (DisputeState.QUEUED, DisputeState.RUNNING)

    @property
    def log_index(self) -> int | None:
        """Its place in the log; None while it waits for the sequencer."""
        return LogLeaf.objects.filter(receipt_id=self.pk).values_list("index", flat=True).first()
