"""What the pages and other rooms read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, F, IntegerField, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Cast, Coalesce

from accounts.models import User
from datanets.models import (
    Contribution,
    Datanet,
    DatanetState,
    Record,
    RecordState,
    Version,
    VersionRecord,
)

BUCKETS = 24


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram. low, high: characters; count: records."""

    low: int
    high: int
    count: int


@dataclass(frozen=True)
class Diff:
    """What a version has that the one before had not, and the reverse."""

    added: QuerySet[Record]
    removed: QuerySet[Record]


def datanet_list(user: Any, *, words: str = "", tag: str = "", licence: str = "",
                 mine: bool = False) -> QuerySet[Datanet]:  # fmt: skip
    """Datanets that the user sees and that match, with their counts of accepted records."""
    found = Datanet.objects.visible_to(user).select_related("owner")
    found = (
        found.with_role(user, "OWNER", "REVIEWER", "BUILDER", "CONTRIBUTOR")
        if mine
        else (found.filter(state=DatanetState.PUBLISHED))
    )
    for word in words.split()[:8]:
        found = found.filter(
            Q(name__icontains=word) | Q(summary__icontains=word) | Q(tags__icontains=word.lower())
        )
    if tag:
        found = found.filter(tags__contains=[tag])
    if licence:
        found = found.filter(licence=licence)
    return with_counts(found).order_by("-published_at", "-id")


def with_counts(datanets: QuerySet[Datanet]) -> QuerySet[Datanet]:
    """Each with accepted_count and latest_version."""
    accepted = Record.objects.filter(datanet=OuterRef("pk"), state=RecordState.ACCEPTED)
    counted = accepted.order_by().values("datanet").annotate(count=Count("pk")).values("count")
    latest = Version.objects.filter(datanet=OuterRef("pk")).order_by("-number").values("number")
    return datanets.annotate(
        accepted_count=Coalesce(Subquery(counted), 0), latest_version=Subquery(latest[:1])
    )


def record_counts(datanet: Datanet) -> dict[str, int]:
    """Records by state, every state present."""
    found = dict(datanet.records.order_by().values_list("state").annotate(Count("pk")))
    return {state: found.get(state, 0) for state in RecordState.values}


def record_list(
    datanet: Datanet, user: Any, *, state: str = "", words: str = "", contributor: str = "",
    contribution: UUID | None = None,
) -> QuerySet[Record]:  # fmt: skip
    """Records of one Datanet that the user sees, filtered; without filter the accepted ones.

    Words find no text that the user may not read: the answer would spell it out word by word.
    """
    found = Record.objects.visible_to(user).filter(datanet=datanet).select_related("contributor")
    found = found.filter(state=state if state in RecordState.values else RecordState.ACCEPTED)
    if words:
        found = found.readable_by(user).matching(words)
    if contributor:
        found = found.filter(contributor__handle=contributor)
    if contribution:
        found = found.filter(contribution=contribution)
    return found.order_by("id")


def inherited_records(datanet: Datanet) -> QuerySet[Record]:
    """Accepted records of the version that the Datanet was derived from; none for any other."""
    if datanet.derived_from_id is None:
        return Record.objects.none()
    held = VersionRecord.objects.filter(version=datanet.derived_from_id).values("record")
    return Record.objects.filter(pk__in=held, state=RecordState.ACCEPTED).exclude(
        datanet__state=DatanetState.TAKEN_DOWN
    )


def accepted_records(datanet: Datanet) -> QuerySet[Record]:
    """What the next version holds: the Datanet's own accepted records and those it inherits.

    A text that came with the parent was there first, so a copy of it is left out.
    """
    own = Record.objects.filter(datanet=datanet, state=RecordState.ACCEPTED)
    if datanet.derived_from_id is None:
        return own
    inherited = inherited_records(datanet)
    own = own.exclude(content_hash__in=inherited.values("content_hash"))
    return Record.objects.filter(Q(pk__in=own.values("pk")) | Q(pk__in=inherited.values("pk")))


def length_histogram(records: QuerySet[Record]) -> list[Bar]:
    """How long the records are, in BUCKETS equal steps up to the longest."""
    longest = records.order_by().aggregate(longest=Max("length"))["longest"]
    if not longest:
        return []
    step = longest // BUCKETS + 1
    counted = dict(
        records.order_by()
        .annotate(bucket=Cast(F("length") / step, IntegerField()))
        .values_list("bucket")
        .annotate(Count("pk"))
    )
    last = longest // step
    return [Bar(i * step, (i + 1) * step - 1, counted.get(i, 0)) for i in range(last + 1)]


def contributor_list(datanet: Datanet) -> QuerySet[User]:
    """Contributors with accepted records, most records first."""
    return (
        User.objects.filter(records__datanet=datanet, records__state=RecordState.ACCEPTED)
        .annotate(record_count=Count("records"))
        .order_by("-record_count", "handle")
    )


def my_contributions(user: User) -> QuerySet[Contribution]:
    """The user's contributions with how many records stand where."""
    states = {
        f"{state.lower()}_count": Count("records", filter=Q(records__state=state))
        for state in (RecordState.ACCEPTED, RecordState.REJECTED, RecordState.PENDING)
    }
    return (
        Contribution.objects.filter(submitter=user)
        .exclude(state="DISCARDED")
        .select_related("datanet")
        .annotate(**states)
        .order_by("-id")
    )


def review_queue(datanet: Datanet, reviewer: User, *, is_owner: bool) -> QuerySet[Record]:
    """Pending records that this reviewer may decide, oldest first."""
    queue = datanet.records.filter(state=RecordState.PENDING).select_related(
        "contributor", "contribution"
    )
    if not is_owner:
        queue = queue.exclude(contributor=reviewer).exclude(contribution__submitter=reviewer)
    return queue.order_by("contribution_id", "row")


def same_text_elsewhere(record: Record) -> QuerySet[Record]:
    """Records of published Datanets with the very same payload, first come first."""
    return (
        Record.objects.filter(content_hash=record.content_hash, state=RecordState.ACCEPTED)
        .filter(datanet__state=DatanetState.PUBLISHED)
        .exclude(datanet=record.datanet)
        .select_related("datanet")
        .order_by("id")
    )


def version_diff(version: Version) -> Diff:
    """Records added and removed against the version before."""
    mine = VersionRecord.objects.filter(version=version).values("record")
    theirs = VersionRecord.objects.filter(version=version.previous_id).values("record")
    return Diff(
        added=Record.objects.filter(pk__in=mine).exclude(pk__in=theirs).order_by("id"),
        removed=Record.objects.filter(pk__in=theirs).exclude(pk__in=mine).order_by("id"),
    )


def version_contributors(version: Version) -> QuerySet[User]:
    """Contributors of a version with their counts of records, most first."""
    return (
        User.objects.filter(records__version_entries__version=version)
        .annotate(record_count=Count("records"))
        .order_by("-record_count", "handle")
    )


def withheld_in(version: Version) -> set[str]:
    """Ids of the version's records whose text may no longer be handed out."""
    found = Record.objects.withheld().filter(version_entries__version=version)
    return {str(pk) for pk in found.values_list("pk", flat=True)}


def version_records(
    version_id: UUID,
) -> Iterator[tuple[UUID, UUID, UUID, str, dict[str, Any]]]:
    """(record, contributor, datanet, content_hash, payload) of a version in the order of ids.

    Records that were withdrawn or taken down since are left out: nothing trains on them again.
    """
    rows = (
        VersionRecord.objects.filter(version=version_id)
        .exclude(record__in=Record.objects.withheld().values("pk"))
        .order_by("position")
        .values_list(
            "record_id",
            "record__contributor_id",
            "record__datanet_id",
            "record__content_hash",
            "record__payload",
        )
    )
    yield from rows.iterator(chunk_size=1_000)


def totals() -> dict[str, int]:
    """Figures for the home page: published Datanets, their accepted records, contributors."""
    accepted = Record.objects.filter(
        state=RecordState.ACCEPTED, datanet__state=DatanetState.PUBLISHED
    )
    return {
        "datanets": Datanet.objects.filter(state=DatanetState.PUBLISHED).count(),
        "records": accepted.count(),
        "contributors": accepted.order_by().values("contributor").distinct().count(),
    }
