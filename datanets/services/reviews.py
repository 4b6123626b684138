"""Verdicts on records: given singly or in bulk, with a reason, and undone as they were given."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q, QuerySet

from accounts import audit
from accounts.ids import uuid7
from accounts.models import User
from datanets import access
from datanets.errors import DatanetError
from datanets.models import (
    Contribution,
    Datanet,
    DatanetState,
    Reason,
    Record,
    RecordState,
    Review,
    Verdict,
)
from datanets.services import origins
from datanets.services.notices import notify_once

BATCH = 1_000
ACCEPTABLE = (RecordState.PENDING,)
# An owner may also take an accepted record out of the next version.
REJECTABLE = (RecordState.PENDING, RecordState.ACCEPTED)


def accept_records(
    *,
    datanet: Datanet,
    acting_user: User,
    at: datetime,
    records: Iterable[UUID] | None = None,
    contribution: Contribution | None = None,
    note: str = "",
) -> UUID | None:
    """PENDING → ACCEPTED for the given records, or for all pending ones (of a contribution).

    Returns the batch for undo_review; None where nothing was pending any more.
    """
    return _decide(
        _chosen(datanet, records, contribution, ACCEPTABLE),
        datanet=datanet,
        verdict=Verdict.ACCEPTED,
        reason="",
        note=note,
        acting_user=acting_user,
        at=at,
    )


def reject_records(
    *,
    datanet: Datanet,
    reason: str,
    acting_user: User,
    at: datetime,
    records: Iterable[UUID] | None = None,
    contribution: Contribution | None = None,
    note: str = "",
) -> UUID | None:
    """PENDING or ACCEPTED → REJECTED with a reason that the contributor reads.

    With records=None only pending ones are rejected. Returns the batch for undo_review.
    Raises DatanetError REASON.
    """
    if reason not in Reason.values:
        raise DatanetError("REASON", "Choose a reason: the contributor will read it.", status=400)
    if reason == Reason.OTHER and not note.strip():
        raise DatanetError("REASON", "Say in the note what the reason is.", status=400)
    states = REJECTABLE if records is not None else ACCEPTABLE
    return _decide(
        _chosen(datanet, records, contribution, states),
        datanet=datanet,
        verdict=Verdict.REJECTED,
        reason=reason,
        note=note,
        acting_user=acting_user,
        at=at,
    )


def undo_review(*, batch: UUID, acting_user: User, at: datetime) -> int:
    """Take back a batch of one's own verdicts; return how many records it moved.

    Raises DatanetError UNDO where nothing of it can be taken back any more.
    """
    with transaction.atomic():
        reviews = list(
            Review.objects.select_for_update(of=("self",))
            .filter(batch=batch, undone_at__isnull=True)
            .select_related("record__datanet")
        )
        if not reviews:
            raise DatanetError("UNDO", "There is nothing to take back.")
        datanet = reviews[0].record.datanet
        access.require_reviewer(acting_user, datanet)
        if any(review.reviewer_id != acting_user.pk for review in reviews):
            raise PermissionDenied("Only the reviewer who gave a verdict can take it back.")
        moved = sum(_restore(reviews, before, verdict) for before, verdict in _kinds(reviews))
        if not moved:
            raise DatanetError("UNDO", "Another verdict has followed; there is nothing to undo.")
        origins.refresh([review.record_id for review in reviews])
        Review.objects.filter(pk__in=[review.pk for review in reviews]).update(undone_at=at)
        audit.record(
            actor=acting_user,
            verb="review.undone",
            target=datanet,
            data={"batch": str(batch), "records": moved},
            at=at,
        )
    return moved


def _chosen(
    datanet: Datanet,
    records: Iterable[UUID] | None,
    contribution: Contribution | None,
    states: Iterable[str],
) -> QuerySet[Record]:
    chosen = Record.objects.filter(datanet=datanet, state__in=list(states))
    if records is not None:
        chosen = chosen.filter(pk__in=list(records))
    if contribution is not None:
        chosen = chosen.filter(contribution=contribution)
    return chosen


def _decide(
    chosen: QuerySet[Record],
    *,
    datanet: Datanet,
    verdict: Verdict,
    reason: str,
    note: str,
    acting_user: User,
    at: datetime,
) -> UUID | None:
    access.require_reviewer(acting_user, datanet)
    if datanet.state == DatanetState.TAKEN_DOWN:
        raise DatanetError("STATE", "This Datanet was taken down.")
    if not access.may_own(acting_user, datanet):
        chosen = chosen.exclude(Q(contributor=acting_user) | Q(contribution__submitter=acting_user))
    batch = uuid7()
    with transaction.atomic():
        found = list(
            chosen.order_by("id")
            .select_for_update(of=("self",))
            .values_list("pk", "state", "contribution_id")
        )
        if not found:
            return None
        Record.objects.filter(pk__in=[pk for pk, _, _ in found]).update(
            state=verdict.value, decided_at=at
        )
        origins.refresh([pk for pk, _, _ in found])
        Review.objects.bulk_create(
            (
                Review(
                    record_id=pk,
                    reviewer=acting_user,
                    verdict=verdict,
                    reason=reason,
                    note=note[:500],
                    batch=batch,
                    before=state,
                    at=at,
                )
                for pk, state, _ in found
            ),
            batch_size=BATCH,
        )
        audit.record(
            actor=acting_user,
            verb=f"records.{verdict.lower()}",
            target=datanet,
            data={"batch": str(batch), "records": len(found), "reason": reason, "note": note},
            at=at,
        )
        _tell({contribution for _, _, contribution in found}, acting_user, at)
    return batch


def _tell(contribution_ids: set[UUID], acting_user: User, at: datetime) -> None:
    """Tell the submitters how their contributions stand."""
    counted = (
        Contribution.objects.filter(pk__in=contribution_ids)
        .select_related("submitter", "datanet")
        .annotate(
            accepted=Count("records", filter=Q(records__state=RecordState.ACCEPTED)),
            rejected=Count("records", filter=Q(records__state=RecordState.REJECTED)),
            pending=Count("records", filter=Q(records__state=RecordState.PENDING)),
        )
    )
    for contribution in counted:
        if contribution.submitter_id == acting_user.pk:
            continue
        waiting = f", {contribution.pending:,} waiting" if contribution.pending else ""
        notify_once(
            user=contribution.submitter,
            kind="datanets.reviewed",
            title=(
                f"{contribution.name}: {contribution.accepted:,} accepted, "
                f"{contribution.rejected:,} rejected{waiting}"
            ),
            body=f"{contribution.datanet.name} reviewed your records. Every verdict has a reason.",
            url=contribution.get_absolute_url(),
            at=at,
        )


def _kinds(reviews: list[Review]) -> set[tuple[str, str]]:
    return {(review.before, review.verdict) for review in reviews}


def _restore(reviews: list[Review], before: str, verdict: str) -> int:
    """Put records back to `before` where this verdict still is their state."""
    pks = [r.record_id for r in reviews if (r.before, r.verdict) == (before, verdict)]
    return Record.objects.filter(pk__in=pks, state=verdict).update(state=before, decided_at=None)
