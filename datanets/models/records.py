"""Records, what reviewers said of them, and what readers reported."""

from typing import Any

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse

from accounts.ids import uuid7
from accounts.models.base import Entity
from datanets.models.contributions import Contribution
from datanets.models.datanets import Datanet, DatanetState, Membership, Viewer


class RecordState(models.TextChoices):
    PENDING = "PENDING", "Waiting for review"
    ACCEPTED = "ACCEPTED", "Accepted"
    REJECTED = "REJECTED", "Rejected"
    WITHDRAWN = "WITHDRAWN", "Withdrawn"
    TAKEN_DOWN = "TAKEN_DOWN", "Taken down"

    @property
    def chip(self) -> str:
        """The chip's colour."""
        return {
            "PENDING": "info",
            "ACCEPTED": "good",
            "REJECTED": "bad",
            "TAKEN_DOWN": "bad",
            "WITHDRAWN": "warn",
        }[self.value]


# A Datanet holds a text once: among these states a content hash is unique.
HELD = ("PENDING", "ACCEPTED", "TAKEN_DOWN")
# A payload in these states is shown to nobody but staff and its contributor.
WITHHELD = ("WITHDRAWN", "TAKEN_DOWN")

SEARCH = SearchVector("text", config="simple")


class RecordQuerySet(models.QuerySet["Record"]):
    def visible_to(self, user: Viewer) -> "RecordQuerySet":
        """Accepted ones of published Datanets, all of one's own and of Datanets one works in."""
        if user.is_staff:
            return self
        public = Q(state=RecordState.ACCEPTED, datanet__state=DatanetState.PUBLISHED)
        # A permalink of a withdrawn or removed record says so instead of vanishing.
        public |= Q(state__in=WITHHELD, datanet__state=DatanetState.PUBLISHED)
        if not user.is_authenticated:
            return self.filter(public)
        held = Membership.objects.filter(datanet=OuterRef("datanet"), user=user)
        works = held.filter(role__in=["OWNER", "REVIEWER"])
        trains = held.filter(role="BUILDER")
        mine = Q(contributor=user) | Q(contribution__submitter=user)
        return self.filter(
            public | mine | Exists(works) | (Q(state=RecordState.ACCEPTED) & Exists(trains))
        )

    def withheld(self) -> "RecordQuerySet":
        """Those that nobody may train on or be handed: withdrawn or taken down, alone or with
        their whole Datanet (a derived Datanet's version may hold them still)."""
        return self.filter(Q(state__in=WITHHELD) | Q(datanet__state=DatanetState.TAKEN_DOWN))

    def readable_by(self, user: Viewer) -> "RecordQuerySet":
        """Without the records whose text is withheld from the user."""
        if user.is_staff:
            return self
        readable = ~Q(state__in=WITHHELD)
        if user.is_authenticated:
            readable |= Q(contributor=user)
        return self.filter(readable)

    def matching(self, words: str) -> "RecordQuerySet":
        """Records that contain all the words (web search syntax)."""
        query = SearchQuery(words, config="simple", search_type="websearch")
        texts = RecordText.objects.annotate(search=SEARCH).filter(search=query)
        return self.filter(pk__in=texts.values("record"))


class Record(Entity):
    """One training example: content hash, payload, contributor, licence."""

    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="records")
    contribution = models.ForeignKey(Contribution, on_delete=models.PROTECT, related_name="records")
    row = models.PositiveIntegerField()
    contributor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="records"
    )
    licence = models.CharField(max_length=40)
    payload = models.JSONField()
    content_hash = models.CharField(max_length=64)
    excerpt = models.TextField()
    length = models.PositiveIntegerField()
    state = models.CharField(
        max_length=10, choices=RecordState.choices, default=RecordState.PENDING
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    # Staff's reason for a takedown, shown at the permalink.
    statement = models.TextField(blank=True, default="")

    objects = RecordQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["datanet", "state", "id"], name="record_by_datanet"),
            models.Index(fields=["contribution", "row"], name="record_by_contribution"),
            models.Index(fields=["contributor", "state"], name="record_by_contributor"),
            models.Index(fields=["content_hash"], name="record_by_hash"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["datanet", "content_hash"],
                condition=Q(state__in=HELD),
                name="record_text_once_per_datanet",
            ),
            models.UniqueConstraint(fields=["contribution", "row"], name="record_once_per_row"),
        ]

    def __str__(self) -> str:
        return f"{self.datanet_id}: {self.content_hash[:12]}"

    def get_absolute_url(self) -> str:
        return reverse("datanets:record", args=[self.pk])

    @property
    def state_chip(self) -> str:
        """The chip's colour."""
        return RecordState(self.state).chip

    @property
    def messages(self) -> list[dict[str, str]]:
        """The payload as turns; plain text has none."""
        turns: list[dict[str, str]] = self.payload.get("messages", [])
        return turns

    @property
    def is_withheld(self) -> bool:
        return self.state in WITHHELD


class RecordText(models.Model):
    """What search looks through: the beginning of a record's text, apart from its state.

    A verdict rewrites the record's row; the search index would be rewritten with it.
    """

    record = models.OneToOneField(
        Record, primary_key=True, on_delete=models.CASCADE, related_name="search_text"
    )
    text = models.TextField()

    class Meta:
        indexes = [GinIndex(SEARCH, name="record_text_search")]

    def __str__(self) -> str:
        return self.text[:80]


class Verdict(models.TextChoices):
    ACCEPTED = "ACCEPTED", "Accepted"
    REJECTED = "REJECTED", "Rejected"


class Reason(models.TextChoices):
    """Why a record is rejected; the contributor reads the label."""

    WRONG = "WRONG", "The content is wrong"
    UNCLEAR = "UNCLEAR", "The question or the answer is unclear"
    OFF_TOPIC = "OFF_TOPIC", "It does not belong to this Datanet"
    LOW_QUALITY = "LOW_QUALITY", "Badly written or badly formatted"
    DUPLICATE = "DUPLICATE", "It repeats another record"
    PERSONAL_DATA = "PERSONAL_DATA", "It contains personal data"
    RIGHTS = "RIGHTS", "The licence or the source is not clear"
    OTHER = "OTHER", "Another reason (see the note)"


class Review(Entity):
    """One reviewer's verdict on a record. batch: the act in which it was given, for undo."""

    record = models.ForeignKey(Record, on_delete=models.CASCADE, related_name="reviews")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="reviews"
    )
    verdict = models.CharField(max_length=8, choices=Verdict.choices)
    reason = models.CharField(max_length=20, choices=Reason.choices, blank=True, default="")
    note = models.CharField(max_length=500, blank=True, default="")
    batch = models.UUIDField(default=uuid7)
    # The record's state before, to which an undo returns.
    before = models.CharField(max_length=10, choices=RecordState.choices)
    at = models.DateTimeField()
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["record", "-at"], name="review_by_record"),
            models.Index(fields=["batch"], name="review_by_batch"),
            models.Index(fields=["reviewer", "-at"], name="review_by_reviewer"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(verdict="ACCEPTED") | ~Q(reason=""), name="review_rejects_with_reason"
            )
        ]

    def __str__(self) -> str:
        return f"{self.verdict} by {self.reviewer_id}"


class ReportState(models.TextChoices):
    OPEN = "OPEN", "Open"
    UPHELD = "UPHELD", "Upheld"
    DISMISSED = "DISMISSED", "Dismissed"


class ReportReason(models.TextChoices):
    RIGHTS = "RIGHTS", "It infringes somebody's rights"
    PERSONAL_DATA = "PERSONAL_DATA", "It contains personal data"
    ILLEGAL = "ILLEGAL", "It is illegal or harmful"
    SPAM = "SPAM", "It is spam or fraud"
    OTHER = "OTHER", "Something else"


class Report(Entity):
    """A reader's report of a Datanet, or of one of its records."""

    datanet = models.ForeignKey(Datanet, on_delete=models.CASCADE, related_name="reports")
    record = models.ForeignKey(
        Record, null=True, blank=True, on_delete=models.CASCADE, related_name="reports"
    )
    reporter = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="reports"
    )
    reason = models.CharField(max_length=20, choices=ReportReason.choices)
    text = models.TextField(max_length=2_000, blank=True, default="")
    state = models.CharField(max_length=10, choices=ReportState.choices, default=ReportState.OPEN)
    handled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    handled_at = models.DateTimeField(null=True, blank=True)
    statement = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["state", "id"], name="report_by_state")]
        constraints = [
            models.UniqueConstraint(
                fields=["reporter", "datanet"],
                condition=Q(state="OPEN", record__isnull=True),
                name="report_datanet_once_while_open",
            ),
            models.UniqueConstraint(
                fields=["reporter", "record"],
                condition=Q(state="OPEN", record__isnull=False),
                name="report_record_once_while_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reason} on {self.record_id or self.datanet_id}"

    @property
    def target(self) -> Any:
        """The record, or the Datanet as a whole."""
        return self.record or self.datanet
