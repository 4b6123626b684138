"""Paying out of a Datanet's treasury, which royalties and slashes fill."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import PermissionDenied

from accounts.models import User
from datanets import access
from datanets.errors import DatanetError
from datanets.models import Datanet, DatanetState
from ledger.models import Entry
from ledger.services.keepers import pay_from_treasury


def pay_out_treasury(
    *,
    datanet: Datanet,
    to: User,
    amount: int,
    reason: str,
    key: str,
    acting_user: User,
    at: datetime,
) -> Entry:
    """Pay `amount` wei of the treasury to a person's spendable balance, once for each `key`.

    The owner keeps the treasury; of a Datanet that was taken down staff do. Raises
    PermissionDenied, DatanetError STATE, and LedgerError as `pay_from_treasury`.
    """
    is_down = datanet.state == DatanetState.TAKEN_DOWN
    if not (acting_user.is_staff and is_down) and not access.may_own(acting_user, datanet):
        raise PermissionDenied("The Datanet's owner keeps its treasury.")
    if is_down and not acting_user.is_staff:
        raise DatanetError("STATE", "This Datanet was taken down; staff keep its treasury now.")
    return pay_from_treasury(
        datanet_id=datanet.pk,
        to=to,
        amount=amount,
        reason=reason,
        key=key,
        acting_user=acting_user,
        at=at,
    )
