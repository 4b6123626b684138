"""One completion's attribution: the work, the receipt, and what the receipt credits."""

from datetime import datetime
from typing import Any

import pgtrigger
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery
from django.urls import reverse

from accounts.fields import WeiField
from accounts.models import Blob
from accounts.models.base import Entity, WorkItem
from attribution.models.log import LogLeaf
from datanets.models import Datanet, Record
from ledger.models import Refund
from modelfactory.models import Model


class Attribution(WorkItem):
    """The wish for a receipt. Texts and tokens are let go once the receipt stands."""

    class State(models.TextChoices):
        QUEUED = "QUEUED", "Waiting"
        RUNNING = "RUNNING", "Being computed"
        DONE = "DONE", "Done"
        FAILED = "FAILED", "Failed"

    completion_id = models.UUIDField(unique=True)
    model = models.ForeignKey(
        Model,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="attributions",
        db_index=False,
    )
    payer = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    prompt_ids = ArrayField(models.IntegerField(), default=list)
    answer_ids = ArrayField(models.IntegerField(), default=list)
    prompt = models.TextField(blank=True, default="")
    answer = models.TextField(blank=True, default="")
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    fee = WeiField()
    input_price = WeiField()
    output_price = WeiField()
    # {"version": n, "parts": {kind: basis points}}
    split = models.JSONField()
    # By what the fee was divided, as `ledger.fees` writes it; None where there was no hold.
    terms = models.JSONField(null=True, blank=True)
    # The records that were put into the prompt, as `attribution.retrievals` reads it.
    retrieval = models.JSONField(null=True, blank=True)
    # Several models that answered as one, as `attribution.merges` reads it; then `model` is null.
    merge = models.JSONField(null=True, blank=True)
    # FAILED since an index could not be built.
    lacks_index = models.BooleanField(default=False, db_default=False)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "lease_expires_at"], name="attribution_by_lease"),
            # For those of several models, which wait no longer than for hours; there are few.
            models.Index(
                fields=["created_at"],
                condition=Q(lacks_index=True),
                name="attribution_without_index",
            ),
            models.Index(fields=["model", "state"], name="attribution_by_model"),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.completion_id}"

    @property
    def is_waiting(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)

    @property
    def settles_without_index_at(self) -> datetime | None:
        """From when an index that failed is waited for no longer; None where it always is."""
        return self.created_at + settings.MERGE_INDEX_PATIENCE if self.merge else None


class ReceiptQuerySet(models.QuerySet["Receipt"]):
    def private_to(self, user: Any) -> "ReceiptQuerySet":
        """Those whose private part `user` may read: the payer, who is credited, and staff."""
        if not user.is_authenticated:
            return self.none()
        if user.is_staff:
            return self
        credited = ContributorShare.objects.filter(receipt=OuterRef("pk"), contributor=user)
        return self.filter(Q(payer=user) | Exists(credited))

    def crediting(self, user: Any) -> "ReceiptQuerySet":
        credited = ContributorShare.objects.filter(receipt=OuterRef("pk"), contributor=user)
        return self.filter(Exists(credited))

    def seen_by(self, user: Any) -> "ReceiptQuerySet":
        """With `model_is_visible`: a receipt is public, the name of its model may not be."""
        visible = Model.objects.visible_to(user).filter(pk=OuterRef("model_id"))
        return self.annotate(model_is_visible=Exists(visible))

    def with_parts(self) -> "ReceiptQuerySet":
        return self.select_related("model__base_model", "model__owner", "payer").prefetch_related(
            "parents"
        )

    def with_refunds(self) -> "ReceiptQuerySet":
        """With `refunded`: wei of the fee that were given back to the payer; None where none."""
        given = Refund.objects.filter(
            hold__cause_kind="completion", hold__cause_id=OuterRef("completion_id")
        )
        return self.annotate(refunded=Subquery(given.values("amount")[:1]))


class Receipt(Entity):
    """`public` is what the log commits to and everyone reads; `private` holds salts (the
    payer's alone), the hash of the answer's sketch and the top records. The public part is never
    changed."""

    class Outcome(models.TextChoices):
        CREDITED = "CREDITED", "Contributors were credited"
        NO_POSITIVE_INFLUENCE = "NO_POSITIVE_INFLUENCE", "No positive influence"
        NO_CLEAR_INFLUENCE = "NO_CLEAR_INFLUENCE", "No clear influence"
        NO_INDEX = "NO_INDEX", "Its index could not be built"
        NO_ANSWER = "NO_ANSWER", "No answer tokens"
        NO_CONTRIBUTORS = "NO_CONTRIBUTORS", "A base model has no contributors"

    attribution = models.OneToOneField(
        Attribution, on_delete=models.PROTECT, related_name="receipt"
    )
    completion_id = models.UUIDField(unique=True)
    # Where a key has no index of its own, one below begins with it: each costs every receipt.
    model = models.ForeignKey(
        Model,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="receipts",
        db_index=False,
    )
    payer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="receipts_paid",
        db_index=False,
    )
    outcome = models.CharField(max_length=24, choices=Outcome.choices)
    fee = WeiField()
    amount = WeiField()
    entry_id = models.UUIDField(null=True, blank=True)
    public = models.JSONField()
    body_sha256 = models.CharField(max_length=64)
    leaf_hash = models.CharField(max_length=64)
    private = models.JSONField(default=dict, blank=True)
    sketch = models.ForeignKey(
        Blob, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    at = models.DateTimeField()

    objects = ReceiptQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["model", "-id"], name="receipt_by_model"),
            models.Index(fields=["payer", "-id"], name="receipt_by_payer"),
            models.Index(fields=["leaf_hash"], name="receipt_by_leaf"),
            models.Index(fields=["sketch"], name="receipt_by_sketch"),
            models.Index(fields=["-created_at"], name="receipt_by_time"),
            # Sums over a period: leaderboards, the last 90 days.
            models.Index(fields=["at"], name="receipt_by_answer_time"),
        ]
        triggers = [
            pgtrigger.Protect(name="is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="public_part_stays",
                fields=[
                    "id",
                    "completion_id",
                    "outcome",
                    "fee",
                    "amount",
                    "public",
                    "body_sha256",
                    "leaf_hash",
                    "at",
                ],
            ),
        ]

    def __str__(self) -> str:
        return f"receipt {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("attribution:receipt", args=[self.pk])

    @property
    def log_index(self) -> int | None:
        """Its place in the log; None while it waits for the sequencer."""
        return LogLeaf.objects.filter(receipt_id=self.pk).values_list("index", flat=True).first()


def millionths(count: int) -> str:
    """`-0.3` of -300,000, with every digit."""
    return f"{count / 10**6:.6f}".rstrip("0").rstrip(".")


class ReceiptParentQuerySet(models.QuerySet["ReceiptParent"]):
    def seen_by(self, user: Any) -> "ReceiptParentQuerySet":
        """With `model_is_visible`: whether `user` may know the model's name."""
        visible = Model.objects.visible_to(user).filter(pk=OuterRef("model_id"))
        return self.annotate(model_is_visible=Exists(visible))


class ReceiptParent(Entity):
    """One of several models that answered as one: what it was weighed with, in millionths, and
    what part of 10**9 it was paid for by that."""

    receipt = models.ForeignKey(
        Receipt, on_delete=models.CASCADE, related_name="parents", db_index=False
    )
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="merged_receipts")
    place = models.PositiveSmallIntegerField()
    weight_ppm = models.IntegerField()
    share_ppb = models.BigIntegerField()
    # Its index could not be built while others waited.
    without_index = models.BooleanField(default=False, db_default=False)

    objects = ReceiptParentQuerySet.as_manager()

    class Meta:
        ordering = ["place"]
        indexes = [
            # For staff, who look at the newest; there are hardly any.
            models.Index(
                fields=["-created_at"],
                condition=Q(without_index=True),
                name="receipt_parent_without_index",
            )
        ]
        constraints = [
            models.UniqueConstraint(fields=["receipt", "place"], name="receipt_parent_place_once"),
            models.UniqueConstraint(fields=["receipt", "model"], name="receipt_parent_model_once"),
            models.CheckConstraint(
                condition=~Q(weight_ppm=0) & Q(share_ppb__gte=0) & Q(share_ppb__lte=10**9),
                name="receipt_parent_has_a_weight",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.place}: {self.model_id}"

    @property
    def weight(self) -> str:
        return millionths(self.weight_ppm)

    @property
    def percent(self) -> float:
        """For a page; money is never computed from it."""
        return self.share_ppb / 10**7


class RecordInfluence(Entity):
    """One of the records that helped an answer most; `influence` is the sketch's integer score."""

    receipt = models.ForeignKey(
        Receipt, on_delete=models.CASCADE, related_name="record_influences", db_index=False
    )
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="influences")
    contributor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    rank = models.PositiveSmallIntegerField()
    influence = WeiField()

    class Meta:
        ordering = ["rank"]
        constraints = [
            models.UniqueConstraint(fields=["receipt", "rank"], name="record_influence_rank_once"),
            models.UniqueConstraint(
                fields=["receipt", "record"], name="record_influence_record_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rank}: {self.record_id}"


class ContributorShareQuerySet(models.QuerySet["ContributorShare"]):
    def seen_by(self, user: Any) -> "ContributorShareQuerySet":
        """With `datanet_is_visible`: whether `user` may know the Datanet's name."""
        visible = Datanet.objects.visible_to(user).filter(pk=OuterRef("datanet_id"))
        return self.annotate(datanet_is_visible=Exists(visible))


class ContributorShare(Entity):
    """A credit of a receipt: to a contributor for one Datanet, or to a Datanet's treasury."""

    class Kind(models.TextChoices):
        CONTRIBUTOR = "CONTRIBUTOR", "Contributor"
        TREASURY = "TREASURY", "Datanet treasury"

    receipt = models.ForeignKey(
        Receipt, on_delete=models.CASCADE, related_name="shares", db_index=False
    )
    kind = models.CharField(max_length=12, choices=Kind.choices)
    contributor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="contributor_shares",
        db_index=False,
    )
    datanet = models.ForeignKey(
        Datanet, on_delete=models.PROTECT, related_name="shares", db_index=False
    )
    # By which of several models that answered as one; null where one model answered.
    model = models.ForeignKey(
        Model, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    influence = WeiField()
    share_ppb = models.BigIntegerField()
    # What the share comes to, of which `passed_on` went to the Datanet's ancestors.
    amount = WeiField()
    passed_on = WeiField(default=0)

    objects = ContributorShareQuerySet.as_manager()

    class Meta:
        ordering = ["-share_ppb", "id"]
        indexes = [
            models.Index(fields=["contributor", "-id"], name="share_by_contributor"),
            models.Index(fields=["datanet", "-id"], name="share_by_datanet"),
            models.Index(
                fields=["model"], condition=Q(model__isnull=False), name="share_by_merged_model"
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["receipt", "kind", "contributor", "datanet", "model"],
                nulls_distinct=False,
                name="share_once_per_receipt",
            ),
            models.CheckConstraint(
                condition=Q(kind="CONTRIBUTOR", contributor__isnull=False)
                | Q(kind="TREASURY", contributor__isnull=True),
                name="share_has_its_owner",
            ),
            models.CheckConstraint(
                condition=Q(share_ppb__gt=0) & Q(share_ppb__lte=10**9) & Q(amount__gte=0),
                name="share_is_a_part",
            ),
            models.CheckConstraint(
                condition=Q(passed_on__gte=0) & Q(passed_on__lte=models.F("amount")),
                name="share_passes_on_no_more",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.share_ppb}"

    @property
    def answering_model(self) -> Model | None:
        """The model by which it was earned, alone or beside others."""
        return self.model or self.receipt.model

    @property
    def kept(self) -> int:
        """Wei that its contributor or treasury was paid."""
        return self.amount - self.passed_on

    @property
    def percent(self) -> float:
        """For the width of a bar; money is never computed from it."""
        return self.share_ppb / 10**7
