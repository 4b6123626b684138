"""One inference: what was asked, what was answered, who pays, and how far it is."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.fields import WeiField
from accounts.models import ApiKey, User, WorkItem
from attribution.models.receipts import millionths
from serving.models.deployments import Deployment
from serving.models.replicas import Replica


class CompletionState(models.TextChoices):
    """HELD: the money is set aside. A CANCELLED one may have been charged for what it gave."""

    HELD = "HELD", "Held"
    RUNNING = "RUNNING", "Running"
    SUCCEEDED = "SUCCEEDED", "Succeeded"
    FAILED = "FAILED", "Failed"
    CANCELLED = "CANCELLED", "Cancelled"

    @property
    def is_final(self) -> bool:
        return self not in UNFINISHED

    @property
    def chip(self) -> str:
        """The colour class of this state on a page; the word itself always stands beside it."""
        return {
            "HELD": "chip--info",
            "RUNNING": "chip--info",
            "SUCCEEDED": "chip--good",
            "FAILED": "chip--bad",
            "CANCELLED": "chip--warn",
        }[self.value]


UNFINISHED = (CompletionState.HELD, CompletionState.RUNNING)


class CompletionKind(models.TextChoices):
    CHAT = "CHAT", "Chat"
    TEXT = "TEXT", "Text"


class CompletionQuerySet(models.QuerySet["Completion"]):
    def visible_to(self, user: User | AnonymousUser) -> CompletionQuerySet:
        """A completion is its payer's alone: prompts are private, to staff too."""
        return self.filter(payer=user) if user.is_authenticated else self.none()

    def unfinished(self) -> CompletionQuerySet:
        return self.filter(state__in=UNFINISHED)


class Completion(WorkItem):
    """`fee` is what was charged, `highest_fee` what was held; wei, as the prices per token.

    `split` is the division of the fee in force when it was held. `first_token_at` is written
    before a token is shown to anybody: from then on the request is never run a second time.
    """

    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="completions")
    payer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="completions"
    )
    api_key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="completions"
    )
    # The server elsewhere that answers it, or answered it last; empty for a worker's own engine.
    replica = models.ForeignKey(
        Replica, null=True, blank=True, on_delete=models.SET_NULL, related_name="completions"
    )
    kind = models.CharField(max_length=4, choices=CompletionKind.choices)
    state = models.CharField(
        max_length=9, choices=CompletionState.choices, default=CompletionState.HELD
    )
    messages = models.JSONField(default=list)
    prompt = models.TextField(blank=True, default="")
    prompt_ids = ArrayField(models.IntegerField())
    sampling = models.JSONField(default=dict)
    answer = models.TextField(blank=True, default="")
    answer_ids = ArrayField(models.IntegerField(), default=list)
    # {"prompt": […], "answer": […]}, each place [token, logprob, [[token, logprob], …]].
    logprobs = models.JSONField(null=True, blank=True)
    # Tokens that records may take in the prompt, held for; then which records were put there, as
    # `attribution.retrievals` reads it. None until a worker has looked.
    retrieval_tokens = models.PositiveIntegerField(default=0)
    retrieval = models.JSONField(null=True, blank=True)
    # Adapters that answer as one on the base that is the deployment (`serving.merges`).
    merge = models.JSONField(null=True, blank=True)
    finish_reason = models.CharField(max_length=20, blank=True, default="")
    prompt_tokens = models.PositiveIntegerField()
    cached_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    input_price = WeiField()
    output_price = WeiField()
    highest_fee = WeiField()
    fee = WeiField(default=0)
    split = models.JSONField()
    parameter_version = models.PositiveIntegerField()
    hold_id = models.UUIDField(null=True, blank=True)
    entry_id = models.UUIDField(null=True, blank=True)
    receipt_id = models.UUIDField(null=True, blank=True)
    deadline = models.DateTimeField()
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    first_token_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = CompletionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["payer", "-id"], name="serving_completion_by_payer"),
            models.Index(fields=["deployment", "-id"], name="serving_completion_by_deploym"),
            models.Index(
                fields=["payer"],
                name="serving_completion_unfinished",
                condition=Q(state__in=["HELD", "RUNNING"]),
            ),
            models.Index(
                fields=["lease_expires_at"],
                name="serving_completion_leased",
                condition=Q(state__in=["HELD", "RUNNING"]),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["SUCCEEDED", "CANCELLED"]) | Q(entry_id=None),
                name="serving_completion_failed_is_not_paid",
            ),
            models.CheckConstraint(
                condition=Q(fee__gte=0) & Q(fee__lte=models.F("highest_fee")),
                name="serving_completion_fee_within_hold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("serving:completion", args=[self.pk])

    @property
    def merge_title(self) -> str:
        """`0.7 × house-tone + 0.3 × house-law`; "" where one model answers."""
        return " + ".join(
            f"{millionths(one['weight_ppm'])} × {one['name']}"
            for one in (self.merge or {}).get("parents", ())
        )

    @property
    def chip(self) -> str:
        return CompletionState(self.state).chip

    @property
    def is_final(self) -> bool:
        return CompletionState(self.state).is_final
