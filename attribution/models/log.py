"""The receipt log: its leaves in order, and every head that was ever signed."""

from django.db import models
from django.db.models import Q

from accounts.models.base import Entity


class LogLeaf(Entity):
    """One entry of the log. `index` is empty while the leaf waits for the sequencer, `receipt_id`
    is what it speaks of: a receipt, an index or an audit of one."""

    receipt_id = models.UUIDField(unique=True)
    index = models.BigIntegerField(unique=True, null=True, blank=True)
    leaf_hash = models.CharField(max_length=64)
    data = models.BinaryField()
    sequenced_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="log_leaf_waiting", condition=Q(index__isnull=True))
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(index__isnull=True) | Q(index__gte=0), name="log_leaf_index_natural"
            ),
            models.CheckConstraint(
                condition=Q(index__isnull=True, sequenced_at__isnull=True)
                | Q(index__isnull=False, sequenced_at__isnull=False),
                name="log_leaf_sequenced_with_index",
            ),
        ]

    def __str__(self) -> str:
        return f"leaf {'waiting' if self.index is None else self.index}"


class Checkpoint(Entity):
    """A signed head of the log: the root over its first `size` leaves."""

    class State(models.TextChoices):
        RECORDED = "RECORDED", "Recorded"
        SUBMITTED = "SUBMITTED", "Sent to the chain"
        ANCHORED = "ANCHORED", "Anchored on the chain"

    sequence = models.BigIntegerField(unique=True)
    size = models.BigIntegerField(unique=True)
    root = models.CharField(max_length=64)
    note = models.TextField()
    log_key = models.CharField(max_length=300)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RECORDED)
    anchor_intent_id = models.UUIDField(null=True, blank=True)
    anchor_requested_at = models.DateTimeField(null=True, blank=True)
    signed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(size__gt=0, sequence__gt=0), name="checkpoint_counts_from_one"
            ),
            models.CheckConstraint(
                condition=Q(state="RECORDED") | Q(anchor_requested_at__isnull=False),
                name="checkpoint_sent_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"checkpoint of {self.size}"
