"""A local file straight into a Datanet, through the same steps as in the browser, in one call.

For commands, seeds and tests; the browser's way is the same services with workers in between.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction

from accounts.blobs import put_file
from accounts.models import User
from datanets import access
from datanets.errors import DatanetError
from datanets.models import Contribution, ContributionState, Datanet
from datanets.services import checking, contributions, submission


def import_file(
    *,
    datanet: Datanet,
    path: Path | str,
    acting_user: User,
    at: datetime,
    mapping: Mapping[str, Any] | None = None,
    contributor_column: str = "",
    licence: str = "",
    consent: bool = True,
) -> Contribution:
    """Ingest a file as one SUBMITTED contribution and return it with its counts.

    mapping: as Mapping.as_dict(), detected where None; contributor_column: names a contributor
    per row (owner only). Daily limits do not apply, the limit on a file's size does.
    Raises DatanetError with the code of what is wrong; the contribution then stays FAILED.
    """
    path = Path(path)
    access.require_contributor(acting_user, datanet)
    contribution = _start(datanet, path, acting_user, at)
    checking.preview_contribution(contribution_id=contribution.pk)
    _require(contribution, ContributionState.MAPPING)
    chosen = dict(mapping if mapping is not None else contribution.preview["mapping"])
    if contributor_column:
        chosen["contributor"] = contributor_column
    contributions.set_mapping(
        contribution=contribution, mapping=chosen, acting_user=acting_user, at=at
    )
    checking.check_contribution(contribution_id=contribution.pk)
    _require(contribution, ContributionState.READY, ContributionState.NEEDS_DECISION)
    contributions.submit_contribution(
        contribution=contribution,
        licence=licence or datanet.licence,
        consent=consent,
        acting_user=acting_user,
        at=at,
    )
    submission.write_records(contribution_id=contribution.pk)
    _require(contribution, ContributionState.SUBMITTED)
    return contribution


def _start(datanet: Datanet, path: Path, acting_user: User, at: datetime) -> Contribution:
    blob = put_file(path, checking.MEDIA_TYPE)
    with transaction.atomic():
        contribution = contributions.start_contribution(
            datanet=datanet,
            name=path.name,
            size=path.stat().st_size,
            acting_user=acting_user,
            at=at,
        )
        contribution.file = blob
        contribution.save(update_fields=["file"])
    return contribution


def _require(contribution: Contribution, *states: ContributionState) -> None:
    contribution.refresh_from_db()
    if contribution.state not in states:
        raise DatanetError(
            contribution.failure_code or "STATE",
            contribution.failure_reason or f"The contribution is {contribution.state}.",
        )
