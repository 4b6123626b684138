"""Publishing a version: asked for in the browser, built by a worker, then fixed for ever."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts import audit, events, leases, outbox
from accounts.blobs import put_bytes, put_file
from accounts.models import User
from accounts.notifications import notify
from datanets import access
from datanets.errors import DatanetError
from datanets.ingest import versions as core
from datanets.models import (
    Datanet,
    DatanetState,
    Version,
    VersionBuild,
    VersionBuildState,
    VersionRecord,
)
from datanets.selectors import accepted_records
from datanets.services.checking import Clock
from datanets.services.lifelines import lifeline

BATCH = 2_000
TASK = "datanets.tasks.build_version"


def request_version(
    *, datanet: Datanet, acting_user: User, at: datetime, note: str = ""
) -> VersionBuild:
    """Have a worker build the next version. Raises DatanetError: STATE, NO_RECORDS, BUILDING."""
    access.require_owner(acting_user, datanet)
    _require_buildable(datanet)
    try:
        with transaction.atomic():
            build = VersionBuild.objects.create(
                datanet=datanet, requested_by=acting_user, note=note[:500], created_at=at
            )
            outbox.enqueue(task=TASK, args=[str(build.pk)], queue="ingest", at=at)
            audit.record(actor=acting_user, verb="version.requested", target=datanet, at=at)
    except IntegrityError:
        raise DatanetError("BUILDING", "A version is being built. Wait for it.") from None
    return build


def build_version(*, build_id: UUID, clock: Clock = timezone.now) -> bool:
    """QUEUED → DONE or FAILED. False where nothing was to do."""
    owner = leases.worker_name()
    claimed = leases.claim(
        VersionBuild,
        build_id,
        from_states=[VersionBuildState.QUEUED],
        to_state=VersionBuildState.BUILDING,
        owner=owner,
        at=clock(),
    )
    if not claimed:
        return False
    build = VersionBuild.objects.select_related("datanet", "requested_by").get(pk=build_id)
    try:
        with lifeline(VersionBuild, build_id, owner=owner), transaction.atomic():
            version = publish_version(
                datanet=build.datanet, acting_user=build.requested_by, at=clock(), note=build.note
            )
            VersionBuild.objects.filter(pk=build_id).update(version=version)
            leases.finish(VersionBuild, build_id, owner=owner, to_state=VersionBuildState.DONE)
    except DatanetError as error:
        with transaction.atomic():
            if leases.finish(
                VersionBuild,
                build_id,
                owner=owner,
                to_state=VersionBuildState.FAILED,
                failure_reason=error.message,
            ):
                _tell_failure(build, error.message, clock())
    return True


def publish_version(
    *, datanet: Datanet, acting_user: User, at: datetime, note: str = ""
) -> Version:
    """Freeze all accepted records as the next version.

    Raises DatanetError: STATE, NO_RECORDS, UNCHANGED; PermissionDenied.
    """
    access.require_owner(acting_user, datanet)
    with transaction.atomic():
        _lock(datanet)
        _require_buildable(datanet)
        previous = datanet.versions.order_by("-number").first()
        entries: list[UUID] = []
        with tempfile.NamedTemporaryFile() as file:
            built = core.build(_accepted(datanet, entries), file)
            file.flush()
            if previous and previous.root == built.root:
                raise DatanetError(
                    "UNCHANGED", f"Nothing has changed since version {previous.number}."
                )
            records_file = put_file(Path(file.name), "application/jsonl")
        version = _create(datanet, previous, built, records_file.pk, note, acting_user, at)
        _add_entries(version, entries)
        _tell(version, built, acting_user, at)
    return version


def requeue(pk: UUID, at: datetime) -> None:
    """The sweeper's way back."""
    moved = VersionBuild.objects.filter(pk=pk, state=VersionBuildState.BUILDING).update(
        state=VersionBuildState.QUEUED, lease_owner="", lease_expires_at=None
    )
    if moved:
        outbox.enqueue(task=TASK, args=[str(pk)], queue="ingest", at=at)


def fail(pk: UUID, reason: str, at: datetime) -> None:
    """The sweeper's way out."""
    build = VersionBuild.objects.select_related("datanet", "requested_by").get(pk=pk)
    with transaction.atomic():
        moved = VersionBuild.objects.filter(pk=pk, state=build.state).update(
            state=VersionBuildState.FAILED,
            failure_reason=reason,
            lease_owner="",
            lease_expires_at=None,
        )
        if moved:
            _tell_failure(build, reason, at)


def _tell_failure(build: VersionBuild, reason: str, at: datetime) -> None:
    data = {"build": str(build.pk), "reason": reason}
    audit.record(actor=None, verb="version.failed", target=build.datanet, data=data, at=at)
    notify(
        user=build.requested_by,
        kind="datanets.version_failed",
        title=f"The new version of {build.datanet.name} was not published",
        body=reason,
        url=f"{build.datanet.get_absolute_url()}versions/",
        at=at,
    )


def _require_buildable(datanet: Datanet) -> None:
    if datanet.state == DatanetState.TAKEN_DOWN:
        raise DatanetError("STATE", "This Datanet was taken down.")
    if not accepted_records(datanet).exists():
        raise DatanetError("NO_RECORDS", "Accept at least one record, then publish a version.")


def _lock(datanet: Datanet) -> None:
    """One build at a time; an advisory lock, since uploads lock the Datanet's row."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"versions:{datanet.pk}"]
        )


def _accepted(datanet: Datanet, entries: list[UUID]) -> Iterator[core.VersionRecord]:
    """Accepted records in the order of ids, read in one snapshot; their ids go to entries."""
    rows = (
        accepted_records(datanet)
        .order_by("id")
        .values_list("pk", "contributor_id", "licence", "content_hash", "payload")
    )
    for pk, contributor, licence, content_hash, payload in rows.iterator(chunk_size=BATCH):
        entries.append(pk)
        yield core.VersionRecord(pk, contributor, licence, content_hash, payload)


def _create(
    datanet: Datanet,
    previous: Version | None,
    built: core.Built,
    records_file: str,
    note: str,
    acting_user: User,
    at: datetime,
) -> Version:
    number = previous.number + 1 if previous else 1
    manifest = core.manifest(
        built,
        datanet=datanet.pk,
        number=number,
        licence=datanet.licence,
        previous_root=previous.root if previous else None,
        derived_from=_source(datanet.derived_from),
        created_at=at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    )
    return Version.objects.create(
        datanet=datanet,
        number=number,
        root=built.root,
        record_count=built.count,
        contributor_count=len(built.contributors),
        licence=datanet.licence,
        manifest=put_bytes(manifest, "application/json"),
        records_file_id=records_file,
        previous=previous,
        note=note[:500],
        published_by=acting_user,
        published_at=at,
        created_at=at,
    )


def _source(version: Version | None) -> dict[str, Any] | None:
    if version is None:
        return None
    return {
        "datanet": str(version.datanet_id),
        "number": version.number,
        "root": version.root,
        "manifest_sha256": version.manifest_id,
    }


def _add_entries(version: Version, entries: list[UUID]) -> None:
    for start in range(0, len(entries), BATCH):
        VersionRecord.objects.bulk_create(
            VersionRecord(version=version, record_id=pk, position=start + index)
            for index, pk in enumerate(entries[start : start + BATCH])
        )


def _tell(version: Version, built: core.Built, acting_user: User, at: datetime) -> None:
    data = {"number": version.number, "root": version.root, "records": version.record_count}
    audit.record(actor=acting_user, verb="version.published", target=version, data=data, at=at)
    events.emit("datanets.version_published", {"version_id": str(version.pk)}, at=at)
    for user in User.objects.filter(pk__in=list(built.contributors), kind=User.Kind.PERSON):
        count = built.contributors[str(user.pk)]
        notify(
            user=user,
            kind="datanets.version_published",
            title=f"{version.datanet.name} v{version.number} holds {count:,} of your records",
            url=version.get_absolute_url(),
            at=at,
        )
