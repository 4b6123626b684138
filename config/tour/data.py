"""Steps 1 to 3: from a file to an immutable version."""

from typing import Any

from django.utils import timezone

from config.tour.journey import Journey, StepFailed
from datanets.models import Contribution, ContributionState, Membership, Record, Role, Upload
from datanets.services import contributions, reviews, uploads, versions
from datanets.services import datanets as services
from datanets.services.uploads import CHUNK_BYTES

QUEUE = "ingest"


def contribute(journey: Journey) -> dict[str, Any]:
    """Create a Datanet, upload the file in chunks, have every row checked, submit the good ones."""
    owner = journey.people["owner"]
    journey.datanet = services.create_datanet(
        name=f"Tour of {journey.file.stem} {timezone.now():%Y-%m-%d %H:%M:%S}",
        summary=f"The records of {journey.file.name}, walked through every step.",
        description=f"Made by the tour from `{journey.file.name}`.",
        rules="A record is a question with its answer.",
        tags=["tour"],
        licence="CC-BY-4.0",
        acting_user=owner,
        at=timezone.now(),
    )
    _name_members(journey)
    contribution = _uploaded(journey)
    _require(journey, contribution, ContributionState.MAPPING)
    mapping = dict(contribution.preview["mapping"])
    if journey.contributor_column:
        mapping["contributor"] = journey.contributor_column
    contributions.set_mapping(
        contribution=contribution, mapping=mapping, acting_user=owner, at=timezone.now()
    )
    _require(journey, contribution, ContributionState.READY, ContributionState.NEEDS_DECISION)
    contributions.submit_contribution(
        contribution=contribution,
        licence=journey.datanet.licence,
        consent=True,
        acting_user=owner,
        at=timezone.now(),
    )
    _require(journey, contribution, ContributionState.SUBMITTED)
    return {
        "rows_read": contribution.rows_read,
        "rows_good": contribution.rows_good,
        "rows_refused": contribution.rows_refused,
        "rows_duplicate": contribution.rows_duplicate,
    }


def review(journey: Journey) -> dict[str, Any]:
    """Accept every pending record as reviewer, and have staff approve the Datanet."""
    datanet = journey.need("datanet")
    reviews.accept_records(
        datanet=datanet, acting_user=journey.people["reviewer"], at=timezone.now()
    )
    services.request_publication(
        datanet=datanet, acting_user=journey.people["owner"], at=timezone.now()
    )
    services.approve_publication(
        datanet=datanet, acting_user=journey.people["staff"], at=timezone.now()
    )
    datanet.refresh_from_db()
    records = Record.objects.filter(datanet=datanet)
    return {
        "accepted": records.filter(state="ACCEPTED").count(),
        "rejected": records.filter(state="REJECTED").count(),
        "contributors": records.values("contributor").distinct().count(),
        "state": datanet.state,
    }


def freeze(journey: Journey) -> dict[str, Any]:
    """Publish a version with its Merkle root."""
    datanet = journey.need("datanet")
    build = versions.request_version(
        datanet=datanet, acting_user=journey.people["owner"], at=timezone.now()
    )

    def built() -> bool:
        build.refresh_from_db()
        if build.state == "FAILED":
            raise StepFailed(f"The version was not built: {build.failure_reason}")
        return datanet.versions.exists()

    journey.wait_for("the version", built, queue=QUEUE)
    journey.version = version = datanet.versions.latest("number")
    return {"version": version.number, "records": version.record_count, "root": version.root}


def _name_members(journey: Journey) -> None:
    assert journey.datanet is not None
    for handle, role in (("reviewer", Role.REVIEWER), ("builder", Role.BUILDER)):
        member = journey.people[handle]
        held = Membership.objects.filter(datanet=journey.datanet, user=member, role=role)
        if not held.exists():
            services.add_member(
                datanet=journey.datanet,
                user=member,
                role=role,
                acting_user=journey.people["owner"],
                at=timezone.now(),
            )


def _uploaded(journey: Journey) -> Contribution:
    assert journey.datanet is not None
    upload: Upload = uploads.start_upload(
        datanet=journey.datanet,
        name=journey.file.name,
        size=journey.file.stat().st_size,
        acting_user=journey.people["owner"],
        at=timezone.now(),
    )
    with journey.file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            upload = uploads.append_chunk(
                upload=upload, offset=upload.offset, data=chunk, at=timezone.now()
            )
    contribution = uploads.contribution_of(upload)
    if contribution is None:
        raise StepFailed("The upload ended without becoming a contribution.")
    return contribution


def _require(journey: Journey, contribution: Contribution, *states: str) -> None:
    """Wait until the ingest worker has brought the contribution to one of `states`."""

    def arrived() -> bool:
        contribution.refresh_from_db()
        if contribution.state == ContributionState.FAILED and "FAILED" not in states:
            raise StepFailed(
                f"The file was refused ({contribution.failure_code}): {contribution.failure_reason}"
            )
        return contribution.state in states

    journey.wait_for(f"the contribution's {' or '.join(states)}", arrived, queue=QUEUE)
