"""Who is told of a slash of a stake in a pool, when the chain has it; each of them once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from accounts.models import Notification, User
from accounts.notifications import notify
from ledger.models.chain import ChainLog
from ledger.models.pools import PoolSlash, SlashFile
from ledger.words import open_text


def tell_proposed(slash: PoolSlash, log: ChainLog) -> None:
    file = SlashFile.objects.filter(sha256=slash.evidence).first()
    until = datetime.fromtimestamp(slash.executable_at, UTC)
    _tell(
        _stakers(slash),
        slash,
        log,
        f"{open_text(slash.amount)} OPEN of your stake are to be slashed",
        f"{file.words if file else 'The evidence is named by its hash alone.'}\n"
        f"You can appeal until {until:%Y-%m-%d %H:%M} UTC with a bond of "
        f"{open_text(slash.bond)} OPEN.",
    )


def tell_appealed(slash: PoolSlash, log: ChainLog) -> None:
    until = datetime.fromtimestamp(slash.executable_at, UTC)
    staff = User.objects.filter(is_staff=True, is_active=True)
    said = f"Uphold it from {until:%Y-%m-%d %H:%M} UTC on, or have the guardian call it off before."
    _tell(staff, slash, log, "The slash of a stake in a pool was appealed", said)


def tell_closed(slash: PoolSlash, log: ChainLog) -> None:
    if slash.state == PoolSlash.State.EXECUTED:
        title = f"{open_text(slash.amount)} OPEN of your stake were slashed"
    else:
        title = "A slash of your stake was called off"
    _tell(_stakers(slash), slash, log, title, "")


def _stakers(slash: PoolSlash) -> Iterable[User]:
    return User.objects.filter(wallets__address__iexact=slash.position.address)


def _tell(people: Iterable[User], slash: PoolSlash, log: ChainLog, title: str, body: str) -> None:
    kind, url = f"ledger.slash_{slash.state.lower()}", slash.get_absolute_url()
    at = datetime.fromtimestamp(log.block.timestamp, UTC)
    for person in people:
        # The events are taken in anew after a reorganisation.
        if not Notification.objects.filter(user=person, kind=kind, url=url).exists():
            notify(user=person, kind=kind, title=title, body=body, url=url, at=at)
