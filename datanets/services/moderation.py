"""Reports by readers, takedowns by staff, withdrawal by contributors."""

from datetime import datetime

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction

from accounts import audit, events
from accounts.models import User
from accounts.notifications import notify
from datanets import access
from datanets.errors import DatanetError
from datanets.models import (
    Contribution,
    Datanet,
    Record,
    RecordState,
    RecordText,
    Report,
    ReportReason,
    ReportState,
)
from datanets.services import origins


def report(
    *,
    datanet: Datanet,
    reason: str,
    text: str,
    acting_user: User,
    at: datetime,
    record: Record | None = None,
) -> Report:
    """Tell staff of something wrong. Raises DatanetError: REASON, TWICE."""
    if reason not in ReportReason.values:
        raise DatanetError("REASON", "Choose what is wrong.", status=400)
    try:
        with transaction.atomic():
            made = Report.objects.create(
                datanet=datanet,
                record=record,
                reporter=acting_user,
                reason=reason,
                text=text.strip()[:2_000],
                created_at=at,
            )
            audit.record(
                actor=acting_user,
                verb="report.made",
                target=made,
                data={"datanet": str(datanet.pk), "record": str(record.pk) if record else None},
                at=at,
            )
            for member in User.objects.filter(is_staff=True, is_active=True):
                notify(
                    user=member,
                    kind="datanets.reported",
                    title=f"Report: {datanet.name}",
                    body=ReportReason(reason).label,
                    url="/staff/moderation/",
                    at=at,
                )
    except IntegrityError:
        raise DatanetError("TWICE", "You have reported this already; staff will look.") from None
    return made


def resolve_report(
    *, report: Report, upheld: bool, statement: str, acting_user: User, at: datetime
) -> None:
    """OPEN → UPHELD or DISMISSED with a statement that the reporter reads."""
    access.require_staff(acting_user)
    if not statement.strip():
        raise DatanetError("REASON", "Say why: the reporter will read it.", status=400)
    state = ReportState.UPHELD if upheld else ReportState.DISMISSED
    with transaction.atomic():
        moved = Report.objects.filter(pk=report.pk, state=ReportState.OPEN).update(
            state=state, handled_by=acting_user, handled_at=at, statement=statement
        )
        if not moved:
            raise DatanetError("STATE", "This report has been handled already.")
        audit.record(
            actor=acting_user,
            verb=f"report.{state.lower()}",
            target=report,
            data={"statement": statement},
            at=at,
        )
        notify(
            user=report.reporter,
            kind="datanets.report_handled",
            title=f"Your report of {report.datanet.name}: {state.label.lower()}",
            body=statement,
            url=report.target.get_absolute_url(),
            at=at,
        )


def take_down_record(*, record: Record, statement: str, acting_user: User, at: datetime) -> None:
    """Any state → TAKEN_DOWN by staff, with a statement at the record's address.

    Versions that hold the record stay as they are; its text is withheld from now on.
    """
    access.require_staff(acting_user)
    if not statement.strip():
        raise DatanetError("REASON", "Say why: the contributor will read it.", status=400)
    with transaction.atomic():
        _withhold(record, RecordState.TAKEN_DOWN, acting_user, at, statement.strip())
        for user in {record.contributor, record.contribution.submitter, record.datanet.owner}:
            notify(
                user=user,
                kind="datanets.record_taken_down",
                title=f"A record of {record.datanet.name} was taken down",
                body=statement,
                url=record.get_absolute_url(),
                at=at,
            )


def withdraw_record(*, record: Record, acting_user: User, at: datetime) -> None:
    """Consent ends: the record leaves the next version. Raises PermissionDenied, STATE."""
    if not access.may_withdraw(acting_user, record):
        raise PermissionDenied("Only the contributor can withdraw a record.")
    with transaction.atomic():
        _withhold(record, RecordState.WITHDRAWN, acting_user, at, "")
        if record.datanet.owner_id != acting_user.pk:
            notify(
                user=record.datanet.owner,
                kind="datanets.record_withdrawn",
                title=f"A record of {record.datanet.name} was withdrawn",
                url=record.get_absolute_url(),
                at=at,
            )


def withdraw_contribution(*, contribution: Contribution, acting_user: User, at: datetime) -> int:
    """Withdraw every record of a contribution that the person may withdraw; returns how many.

    Raises DatanetError STATE where there is none.
    """
    movable = (RecordState.PENDING, RecordState.ACCEPTED, RecordState.REJECTED)
    with transaction.atomic():
        records = (
            Record.objects.select_for_update(of=("self",))
            .select_related("datanet", "contribution", "contributor")
            .filter(contribution=contribution, state__in=movable)
            .order_by("id")
        )
        mine = [record for record in records if access.may_withdraw(acting_user, record)]
        if not mine:
            raise DatanetError("STATE", "No record of this contribution is yours to withdraw.")
        for record in mine:
            _withhold(record, RecordState.WITHDRAWN, acting_user, at, "")
        if contribution.datanet.owner_id != acting_user.pk:
            notify(
                user=contribution.datanet.owner,
                kind="datanets.record_withdrawn",
                title=f"{len(mine):,} records of {contribution.datanet.name} were withdrawn",
                url=contribution.get_absolute_url(),
                at=at,
            )
    return len(mine)


def _withhold(
    record: Record, state: RecordState, acting_user: User, at: datetime, statement: str
) -> None:
    movable = {RecordState.PENDING, RecordState.ACCEPTED, RecordState.REJECTED}
    if state == RecordState.TAKEN_DOWN:
        movable.add(RecordState.WITHDRAWN)
    try:
        with transaction.atomic():
            moved = Record.objects.filter(pk=record.pk, state__in=movable).update(
                state=state, decided_at=at, statement=statement
            )
    except IntegrityError:
        raise DatanetError(
            "STATE", "Another record with the same text stands; act on that one."
        ) from None
    if not moved:
        raise DatanetError("STATE", f"This record is already {record.state.lower()}.")
    RecordText.objects.filter(record=record.pk).delete()
    origins.forget(record)
    record.refresh_from_db()
    verb = state.lower()
    audit.record(
        actor=acting_user,
        verb=f"record.{verb}",
        target=record,
        data={"statement": statement},
        at=at,
    )
    events.emit(
        f"datanets.record_{verb}",
        {"record_id": str(record.pk), "datanet_id": str(record.datanet_id)},
        at=at,
    )
