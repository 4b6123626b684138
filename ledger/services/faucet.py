"""Free OPEN for trying things: from a local chain's faucet, or granted where there is no chain."""

from datetime import datetime

from django.conf import settings

from accounts.models import User
from ledger.services import chain, deposits


def give(*, user: User, amount: int, key: str, acting_user: User, at: datetime) -> None:
    """Give `amount` wei to `user`; the same key gives once.

    Raises LedgerError where this instance has no faucet, or it gives no more today.
    """
    if settings.CHAIN_ENABLED:
        chain.request_faucet(user=user, amount=amount, acting_user=acting_user, key=key, at=at)
    else:
        deposits.grant_without_chain(
            user=user, amount=amount, acting_user=acting_user, key=key, at=at
        )
