"""What a person does with a contribution: start it, choose columns, submit or discard it.

The work between these steps is done by workers, see checking.py and submission.py.
"""

from collections.abc import Mapping as Values
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction

from accounts import audit, outbox
from accounts.models import User
from datanets import access
from datanets.errors import DatanetError
from datanets.ingest.faults import ValueFault
from datanets.ingest.mapping import Mapping
from datanets.licences import allowed_for
from datanets.models import Contribution, ContributionState, Datanet, Upload
from datanets.models.contributions import DISCARDABLE, MAPPABLE, SUBMITTABLE
from datanets.services import staking
from datanets.services.notices import notify_once

QUEUE = "ingest"
WORKER_LOST = "WORKER"
# The task that takes a contribution on from each state in which it waits for a worker.
TASKS = {
    ContributionState.UPLOADED: "datanets.tasks.preview_contribution",
    ContributionState.QUEUED: "datanets.tasks.check_contribution",
    ContributionState.SUBMISSION_QUEUED: "datanets.tasks.write_records",
}
# Where a contribution goes back to when its worker died.
RETRY = {
    ContributionState.PREVIEWING: ContributionState.UPLOADED,
    ContributionState.CHECKING: ContributionState.QUEUED,
    ContributionState.SUBMITTING: ContributionState.SUBMISSION_QUEUED,
}


def start_contribution(
    *,
    datanet: Datanet,
    name: str,
    size: int,
    acting_user: User,
    at: datetime,
    upload: Upload | None = None,
) -> Contribution:
    """A contribution of a complete upload, whose first rows a worker reads next."""
    with transaction.atomic():
        contribution = Contribution.objects.create(
            datanet=datanet,
            submitter=acting_user,
            upload=upload,
            name=name,
            size=size,
            licence=datanet.licence,
            created_at=at,
        )
        audit.record(
            actor=acting_user,
            verb="contribution.uploaded",
            target=contribution,
            data={"datanet": str(datanet.pk), "name": name, "size": size},
            at=at,
        )
        enqueue(contribution.pk, ContributionState.UPLOADED, at)
    return contribution


def enqueue(pk: UUID, state: ContributionState, at: datetime) -> None:
    """Hand a waiting contribution to a worker."""
    outbox.enqueue(task=TASKS[state], args=[str(pk)], queue=QUEUE, at=at)


def set_mapping(
    *, contribution: Contribution, mapping: Values[str, Any], acting_user: User, at: datetime
) -> None:
    """Choose what each column means and have every row checked.

    Raises DatanetError: MAPPING, CONTRIBUTOR_COLUMN, STATE.
    """
    _require_submitter(contribution, acting_user)
    chosen = _require_mapping(contribution, mapping)
    if chosen.contributor and not access.may_own(acting_user, contribution.datanet):
        raise DatanetError(
            "CONTRIBUTOR_COLUMN",
            "Only the Datanet's owner may name other contributors by a column.",
            status=403,
        )
    _move(
        contribution,
        MAPPABLE,
        ContributionState.QUEUED,
        acting_user=acting_user,
        verb="contribution.mapped",
        at=at,
        data=chosen.as_dict(),
        mapping=chosen.as_dict(),
    )


def submit_contribution(
    *,
    contribution: Contribution,
    licence: str,
    consent: bool,
    acting_user: User,
    at: datetime,
    agreed_stake: int | None = None,
) -> None:
    """Hand the good rows in under a licence; a worker writes the records.

    Where the Datanet asks for a stake, it is locked with the submission or nothing happens.
    `agreed_stake` is the amount in wei that the person was shown; None agrees to whatever is asked.

    Raises DatanetError: CONSENT, LICENCE, NO_ROWS, STATE, STAKE, FUNDS; PermissionDenied.
    """
    _require_submitter(contribution, acting_user)
    access.require_contributor(acting_user, contribution.datanet)
    if not consent:
        raise DatanetError(
            "CONSENT", "Confirm that you may give these records under the licence.", status=400
        )
    if licence not in allowed_for(contribution.datanet.licence):
        raise DatanetError("LICENCE", f"“{licence}” does not fit this Datanet.", status=400)
    if not contribution.rows_good:
        raise DatanetError("NO_ROWS", "No row of this file can become a record.")
    with transaction.atomic():
        _move(
            contribution,
            SUBMITTABLE,
            ContributionState.SUBMISSION_QUEUED,
            acting_user=acting_user,
            verb="contribution.consented",
            at=at,
            data={"licence": licence},
            licence=licence,
        )
        staking.lock_for(
            contribution=contribution, agreed=agreed_stake, acting_user=acting_user, at=at
        )


def retry_contribution(*, contribution: Contribution, acting_user: User, at: datetime) -> None:
    """Begin again with the file that is there, after its worker was lost.

    Raises DatanetError STATE; PermissionDenied.
    """
    _require_submitter(contribution, acting_user)
    if contribution.failure_code != WORKER_LOST:
        raise DatanetError("STATE", "This file cannot be read. Correct it and upload it again.")
    _move(
        contribution,
        (ContributionState.FAILED,),
        ContributionState.UPLOADED,
        acting_user=acting_user,
        verb="contribution.retried",
        at=at,
    )


def discard_contribution(*, contribution: Contribution, acting_user: User, at: datetime) -> None:
    """End a contribution before it was submitted. Raises DatanetError STATE."""
    _require_submitter(contribution, acting_user)
    _move(
        contribution,
        DISCARDABLE,
        ContributionState.DISCARDED,
        acting_user=acting_user,
        verb="contribution.discarded",
        at=at,
        good_file=None,
    )


def requeue(pk: UUID, at: datetime) -> None:
    """The sweeper's way back: the lease ran out, another worker begins the step again."""
    contribution = Contribution.objects.get(pk=pk)
    back = RETRY[ContributionState(contribution.state)]
    moved = Contribution.objects.filter(pk=pk, state=contribution.state).update(
        state=back, lease_owner="", lease_expires_at=None
    )
    if moved:
        enqueue(pk, back, at)


def fail(pk: UUID, reason: str, at: datetime) -> None:
    """The sweeper's way out: FAILED with a reason that the person reads."""
    contribution = Contribution.objects.select_related("submitter").get(pk=pk)
    with transaction.atomic():
        moved = Contribution.objects.filter(pk=pk, state=contribution.state).update(
            state=ContributionState.FAILED,
            failure_code=WORKER_LOST,
            failure_reason=reason,
            lease_owner="",
            lease_expires_at=None,
        )
        if not moved:
            return
        audit.record(
            actor=None,
            verb="contribution.failed",
            target=contribution,
            data={"code": WORKER_LOST, "reason": reason},
            at=at,
        )
        staking.return_after_failure(contribution=contribution, at=at)
        notify_once(
            user=contribution.submitter,
            kind="datanets.contribution_failed",
            title=f"{contribution.name} came to a stop",
            body=reason,
            url=contribution.get_absolute_url(),
            at=at,
        )


def _require_submitter(contribution: Contribution, acting_user: User) -> None:
    if contribution.submitter_id != acting_user.pk:
        raise PermissionDenied("Only the person who made this contribution can do this.")


def _require_mapping(contribution: Contribution, mapping: Values[str, Any]) -> Mapping:
    try:
        chosen = Mapping.from_dict(mapping)
        columns = contribution.preview.get("columns") or []
        # Objects of a JSON file need not all have the same columns; the first rows show some.
        if columns and not contribution.preview.get("is_open"):
            chosen.require_columns(columns)
    except ValueFault as fault:
        raise DatanetError(fault.code, fault.message, status=400) from None
    return chosen


def _move(
    contribution: Contribution,
    before: tuple[str, ...],
    after: ContributionState,
    *,
    acting_user: User,
    verb: str,
    at: datetime,
    data: dict[str, Any] | None = None,
    **fields: Any,
) -> None:
    with transaction.atomic():
        moved = Contribution.objects.filter(pk=contribution.pk, state__in=before).update(
            state=after, attempts=0, failure_code="", failure_reason="", **fields
        )
        if not moved:
            raise DatanetError("STATE", "This contribution has moved on. Look at the page again.")
        audit.record(actor=acting_user, verb=verb, target=contribution, data=data, at=at)
        if after in TASKS:
            enqueue(contribution.pk, after, at)
    contribution.refresh_from_db()
