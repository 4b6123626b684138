"""The worker's part after submission: good rows become records, all of them or none."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from accounts import audit, events, leases
from accounts.blobs import open_blob
from accounts.models import User
from accounts.services.people import unclaimed_contributor
from datanets.ingest import payload as payloads
from datanets.models import (
    Contribution,
    ContributionState,
    Datanet,
    Membership,
    Record,
    RecordText,
    Role,
    RowError,
)
from datanets.services import near_duplicates
from datanets.services.checking import Clock, LeaseLost, known_hashes
from datanets.services.lifelines import lifeline
from datanets.services.notices import notify_once

BATCH = 1_000
# How much of a text stands in lists, and how much of it search looks through.
EXCERPT_CHARS = 500
SEARCHED_CHARS = 8_000

Line = dict[str, Any]


def write_records(*, contribution_id: UUID, clock: Clock = timezone.now) -> bool:
    """SUBMISSION_QUEUED → SUBMITTED. False where nothing was to do."""
    at = clock()
    owner = leases.worker_name()
    claimed = leases.claim(
        Contribution,
        contribution_id,
        from_states=[ContributionState.SUBMISSION_QUEUED],
        to_state=ContributionState.SUBMITTING,
        owner=owner,
        at=at,
    )
    if not claimed:
        return False
    contribution = Contribution.objects.select_related("datanet", "submitter").get(
        pk=contribution_id
    )
    with lifeline(Contribution, contribution_id, owner=owner), transaction.atomic():
        _lock(contribution.datanet)
        written, copies = _write(contribution, at)
        _settle(contribution, owner, written, copies, at)
        _tell(contribution, written, at)
        near_duplicates.request_comparison(at=at)
    return True


def _lock(datanet: Datanet) -> None:
    """One submission at a time per Datanet, so that two equal rows cannot pass each other."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"records:{datanet.pk}"]
        )


def _write(contribution: Contribution, at: datetime) -> tuple[int, int]:
    """Records written, and rows that another contribution brought in the meantime."""
    written = copies = 0
    people: dict[str, User] = {"": contribution.submitter}
    known = known_hashes(contribution.datanet)
    for batch in _batches(contribution):
        held = known([line["content_hash"] for line in batch])
        late = [line for line in batch if line["content_hash"] in held]
        RowError.objects.bulk_create(
            RowError(
                contribution=contribution,
                row=line["row"],
                code="DUPLICATE",
                message=held[line["content_hash"]],
            )
            for line in late[:BATCH]
        )
        fresh = [line for line in batch if line["content_hash"] not in held]
        records = Record.objects.bulk_create(
            [_record(contribution, line, people, at) for line in fresh]
        )
        RecordText.objects.bulk_create(
            RecordText(record=record, text=payloads.excerpt(record.payload, SEARCHED_CHARS))
            for record in records
        )
        written += len(fresh)
        copies += len(late)
    return written, copies


def _batches(contribution: Contribution) -> Iterator[list[Line]]:
    if contribution.good_file_id is None:
        return
    with open_blob(contribution.good_file_id) as stream:
        # A stored file begins anew with each iter(), so one iterator serves all batches.
        lines = iter(stream)
        while batch := [json.loads(line) for line in islice(lines, BATCH)]:
            yield batch


def _record(
    contribution: Contribution, line: Line, people: dict[str, User], at: datetime
) -> Record:
    name = line["contributor"]
    if name not in people:
        people[name] = unclaimed_contributor(
            namespace=contribution.datanet.slug,
            name=name,
            acting_user=contribution.submitter,
            at=at,
        )
    return Record(
        datanet=contribution.datanet,
        contribution=contribution,
        row=line["row"],
        contributor=people[name],
        licence=contribution.licence,
        payload=line["payload"],
        content_hash=line["content_hash"],
        excerpt=payloads.excerpt(line["payload"], EXCERPT_CHARS),
        length=payloads.length(line["payload"]),
        created_at=at,
    )


def _settle(
    contribution: Contribution, owner: str, written: int, copies: int, at: datetime
) -> None:
    settled = Contribution.objects.filter(
        pk=contribution.pk, lease_owner=owner, state=ContributionState.SUBMITTING
    ).update(
        state=ContributionState.SUBMITTED,
        rows_good=written,
        rows_refused=contribution.rows_refused + copies,
        rows_duplicate=contribution.rows_duplicate + copies,
        submitted_at=at,
        attempts=0,
        lease_owner="",
        lease_expires_at=None,
    )
    if not settled:
        raise LeaseLost(str(contribution.pk))


def _tell(contribution: Contribution, written: int, at: datetime) -> None:
    datanet = contribution.datanet
    Membership.objects.get_or_create(
        datanet=datanet, user=contribution.submitter, role=Role.CONTRIBUTOR
    )
    audit.record(
        actor=contribution.submitter,
        verb="contribution.submitted",
        target=contribution,
        data={"datanet": str(datanet.pk), "records": written, "licence": contribution.licence},
        at=at,
    )
    reviewers = User.objects.filter(
        datanet_memberships__datanet=datanet,
        datanet_memberships__role__in=[Role.OWNER, Role.REVIEWER],
    ).distinct()
    for reviewer in reviewers:
        if reviewer != contribution.submitter:
            notify_once(
                user=reviewer,
                kind="datanets.to_review",
                title=f"{datanet.name}: records wait for review",
                body=f"{contribution.submitter} submitted {written:,} records.",
                url=f"{datanet.get_absolute_url()}review/",
                at=at,
            )
    events.emit(
        "datanets.contribution_submitted",
        {"contribution_id": str(contribution.pk), "datanet_id": str(datanet.pk)},
        at=at,
    )
