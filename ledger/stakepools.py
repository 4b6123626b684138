"""What the staking pages and the API read of pools and positions. Mirrored tables alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet, Sum

from accounts.models import User
from ledger.chain import artifacts
from ledger.models import (
    Account,
    ChainHead,
    ChainLog,
    PoolFunding,
    PoolMirror,
    PoolSlash,
    StakePool,
    StakePosition,
)
from ledger.onchain import wallet_call
from ledger.services.pools import CONTRACT, owed

LATELY = timedelta(days=30)
HISTORY = 50


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool as a list shows it; amounts in wei, `ends_in` in seconds."""

    pool: StakePool
    stakers: int
    earned_lately: int
    left: int
    ends_in: int


@dataclass(frozen=True, slots=True)
class Solvency:
    """What belongs to whom in the contract, and what it held when it was last looked at."""

    principal: int
    rewards: int
    slashed: int
    held: int
    expected: int
    checked_at: datetime | None

    @property
    def total(self) -> int:
        return self.principal + self.rewards + self.slashed

    @property
    def is_short(self) -> bool:
        return self.checked_at is not None and self.held < self.expected


@dataclass(frozen=True, slots=True)
class Mine:
    """One address's position now: what may be done with it, and when."""

    position: StakePosition
    earned: int
    releases_at: datetime | None
    is_released: bool


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of the contract."""

    log: ChainLog
    at: datetime
    words: str
    amount: int


WORDS = {
    "Staked": "Staked",
    "Unstaked": "Taken out of the stake",
    "Withdrawn": "Withdrawn",
    "RewardsClaimed": "Rewards collected",
    "SlashProposed": "Slash proposed",
    "SlashAppealed": "Slash appealed",
    "SlashExecuted": "Slashed",
    "SlashCanceled": "Slash called off",
}


def chain_second() -> int:
    """The second of the newest mirrored block, by which rewards are told."""
    head = ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first()
    return head.timestamp if head else 0


def pool_rows(*, at: datetime) -> list[PoolRow]:
    return [pool_row(pool, at=at) for pool in StakePool.objects.order_by("model_id", "id")[:200]]


def pool_row(pool: StakePool, *, at: datetime) -> PoolRow:
    stream = pool.stream.at(chain_second())
    return PoolRow(
        pool=pool,
        stakers=pool.positions.filter(staked__gt=0).count(),
        earned_lately=funded_since(pool, at - LATELY),
        left=stream.left,
        ends_in=stream.ends_in(),
    )


def funded_since(pool: StakePool, since: datetime) -> int:
    """What was funded in a pool since then, by us and by others, in wei."""
    logs = ChainLog.objects.filter(
        contract=CONTRACT,
        event="RewardsFunded",
        arguments__poolId=pool.pool_id,
        block__timestamp__gte=int(since.timestamp()),
    )
    return sum(int(given["amount"]) for given in logs.values_list("arguments", flat=True))


def solvency() -> Solvency:
    parts = owed()
    looked = PoolMirror.objects.filter(chain_id=settings.CHAIN_ID).first() or PoolMirror()
    return Solvency(
        **parts,
        held=looked.checked_held,
        expected=looked.checked_owed,
        checked_at=looked.checked_at,
    )


def waiting_for_stakers() -> int:
    """The stakers' part of fees that has not left for a pool yet, in wei."""
    return Account.objects.filter(kind=Account.Kind.STAKERS).total()


def waiting_for_model(pool: StakePool) -> int:
    found = Account.objects.filter(kind=Account.Kind.MODEL_STAKES, owner_id=pool.model_id)
    return found.total() if pool.model_id else 0


def fundings_of(pool: StakePool) -> QuerySet[PoolFunding]:
    return PoolFunding.objects.filter(pool_id=pool.pool_id).order_by("-id")


def on_its_way(pool: StakePool) -> int:
    return int(
        fundings_of(pool).filter(state__in=PoolFunding.OPEN).aggregate(t=Sum("amount"))["t"] or 0
    )


def positions_of(user: Any, pool: StakePool | None = None) -> Sequence[Mine]:
    """Positions of a person's linked wallets."""
    if not isinstance(user, User):
        return []
    addresses = list(user.wallets.values_list("address", flat=True))
    found = StakePosition.objects.filter(address__in=addresses).select_related("pool")
    if pool is not None:
        found = found.filter(pool=pool)
    now = chain_second()
    return [_mine(position, now) for position in found]


def _mine(position: StakePosition, now: int) -> Mine:
    releases = position.releases_at
    return Mine(
        position=position,
        earned=position.earned_at(now),
        releases_at=datetime.fromtimestamp(releases, UTC) if releases else None,
        is_released=releases <= now,
    )


def slashes_of(pool: StakePool) -> QuerySet[PoolSlash]:
    return PoolSlash.objects.filter(position__pool=pool).select_related("position")


def history_of(user: Any, pool: StakePool) -> list[Happened]:
    """What a person's wallets did in a pool, the newest first."""
    if not isinstance(user, User):
        return []
    logs = ChainLog.objects.filter(
        contract=CONTRACT,
        arguments__poolId=pool.pool_id,
        arguments__account__in=list(user.wallets.values_list("address", flat=True)),
        event__in=WORDS,
    ).select_related("block")
    newest = logs.order_by("-block__number", "-log_index")[:HISTORY]
    return [
        Happened(
            log,
            datetime.fromtimestamp(log.block.timestamp, UTC),
            WORDS[log.event],
            int(log.arguments.get("amount", log.arguments.get("bond", 0))),
        )
        for log in newest
    ]


ACTIONS = ("stake", "unstake", "withdraw", "claim")


def call_for(pool_id: str, action: str, *, amount: int = 0, address: str = "") -> dict[str, Any]:
    """A transaction for a wallet, and the same in words. Raises WaitingForChain, AbiError."""
    word = bytes.fromhex(pool_id.removeprefix("0x"))
    if action == "stake":
        call = wallet_call(CONTRACT, "stake", word, value=amount)
        signature = "stake(bytes32)"
    elif action == "unstake":
        call = wallet_call(CONTRACT, "unstake", word, amount)
        signature = "unstake(bytes32,uint128)"
    elif action == "withdraw":
        call = wallet_call(CONTRACT, "withdraw", word)
        signature = "withdraw(bytes32)"
    else:
        call = wallet_call(CONTRACT, "claim", word, address)
        signature = "claim(bytes32,address)"
    return {
        "call": call,
        "function": signature,
        "pool": pool_id,
        "amount": str(amount),
        "refusals": refusals(),
    }


# Why the contract refuses, for a wallet whose estimate of the gas fails.
WHY = {
    "StakingPaused": "The guardian has paused payments and new stakes.",
    "PoolIsClosed": "This pool takes no new stakes.",
    "NotEnoughStaked": "This account has not so much staked here. Look at its position above.",
    "StillLocked": "The term or the cooldown is not over yet; the page says when it is.",
    "HeldBySlash": "An open slash holds a part of this stake until it is decided.",
    "NothingToWithdraw": "Nothing of this account has cooled down, or a slash holds it.",
    "NothingToClaim": "Nothing was earned that was not collected already.",
    "ZeroAmount": "The amount is zero.",
    "UnknownPool": "There is no such pool.",
    "TransferFailed": "The receiving account refuses to be paid.",
    "UnknownSlash": "This slash is closed already. Reload the page.",
    "AppealOpen": "The time to appeal is not over yet.",
    "AppealOver": "The time to appeal is over.",
    "AppealedBefore": "This slash was appealed before, which may be done once.",
    "NotTheirs": "Only the account whose stake it is may appeal.",
    "WrongBond": "The bond is another amount. Reload the page.",
    "AccessControlUnauthorizedAccount": "This account holds no role that may do it.",
}


def refusals() -> dict[str, str]:
    """By the selector of a custom error: why the contract refuses, in a sentence."""
    errors = artifacts.load(CONTRACT).errors
    return {
        "0x" + selector.hex(): WHY.get(item.name, f"{item.name}.")
        for selector, item in errors.items()
    }
