"""A Datanet from another one's version: its records come along with their contributors."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from accounts.models import User
from accounts.notifications import notify
from datanets.errors import DatanetError
from datanets.models import Datanet, DatanetState, Version
from datanets.services.datanets import create_datanet


def derive_datanet(*, version: Version, acting_user: User, at: datetime, **card: Any) -> Datanet:
    """Create a DRAFT Datanet from a version of a published one; `card` as for `create_datanet`.

    The records stay those of the Datanet that they came to, under their own licences, and whoever
    brought them is credited for them as before. What the new Datanet's own records earn passes the
    governed royalty on to its parent's treasury. Raises DatanetError SOURCE, LICENCE.
    """
    source = version.datanet
    if source.state != DatanetState.PUBLISHED:
        raise DatanetError("SOURCE", "Only a published Datanet can be derived from.")
    made = create_datanet(
        derived_from=version, data_type=source.data_type, acting_user=acting_user, at=at, **card
    )
    if source.owner_id != acting_user.pk:
        notify(
            user=source.owner,
            kind="datanets.derived",
            title=f"{acting_user} derives a Datanet from {source.name} v{version.number}",
            body="What its own records earn passes a royalty on to your Datanet's treasury.",
            url=version.get_absolute_url(),
            at=at,
        )
    return made
