"""Turns StakePools' events into our tables, in the order of the chain.

After a reorganisation the tables are emptied and built again: they hold nothing that the events
and the blocks' seconds do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet, Sum

from ledger.calldata import id_from_word
from ledger.chain.pools import Stream, grown
from ledger.models.chain import ChainLog
from ledger.models.pools import PoolMirror, PoolSlash, StakePool, StakePosition
from ledger.services import slashnotices

CONTRACT = "StakePools"
LOCK = 0x706F_6F6C  # "pool"
BATCH = 2_000
KINDS = {"1": StakePool.Kind.FLEXIBLE, "2": StakePool.Kind.LOCKED}
Given = dict[str, Any]


@transaction.atomic
def mirror() -> int:
    """Take in every event since the last; returns how many. Safe to call at any time."""
    cursor = _locked_cursor()
    logs = list(_after(cursor)[:BATCH])
    for log in logs:
        handler = _HANDLERS.get(log.event)
        if handler is not None:
            handler(cursor, log, log.arguments)
    if logs:
        cursor.block_number, cursor.log_index = logs[-1].block.number, logs[-1].log_index
        cursor.save(update_fields=["block_number", "log_index", "slashed"])
    return len(logs)


@transaction.atomic
def rebuild() -> None:
    """Forget everything and take it in again: blocks that some of it came from are gone."""
    cursor = _locked_cursor()
    StakePool.objects.all().delete()
    cursor.block_number, cursor.log_index, cursor.slashed = 0, -1, 0
    cursor.save(update_fields=["block_number", "log_index", "slashed"])
    while mirror():
        pass


def owed() -> dict[str, int]:
    """What belongs to whom in the contract by our tables, in wei; as `solvency()` has it."""
    positions = StakePosition.objects.aggregate(staked=Sum("staked"), cooling=Sum("cooling"))
    pools = StakePool.objects.aggregate(total=Sum("rewards"))
    bonds = PoolSlash.objects.filter(state=PoolSlash.State.APPEALED).aggregate(total=Sum("bond"))
    cursor = PoolMirror.objects.filter(chain_id=settings.CHAIN_ID).first()
    return {
        "principal": int(positions["staked"] or 0) + int(positions["cooling"] or 0),
        "rewards": int(pools["total"] or 0) + int(bonds["total"] or 0),
        "slashed": cursor.slashed if cursor else 0,
    }


def is_behind() -> bool:
    """Whether events wait that these tables do not have yet."""
    cursor = PoolMirror.objects.filter(chain_id=settings.CHAIN_ID).first()
    return _after(cursor or PoolMirror(chain_id=settings.CHAIN_ID)).exists()


@transaction.atomic
def note_solvency(*, held: int, expected: int, at: datetime) -> None:
    """Write down what the contract held when it was looked at, for the staking page."""
    cursor = _locked_cursor()
    cursor.checked_held, cursor.checked_owed = held, expected
    cursor.checked_at = at
    cursor.save(update_fields=["checked_held", "checked_owed", "checked_at"])


def _locked_cursor() -> PoolMirror:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    return PoolMirror.objects.get_or_create(chain_id=settings.CHAIN_ID)[0]


def _after(cursor: PoolMirror) -> QuerySet[ChainLog]:
    later = Q(block__number__gt=cursor.block_number) | Q(
        block__number=cursor.block_number, log_index__gt=cursor.log_index
    )
    return (
        ChainLog.objects.filter(later, contract=CONTRACT, block__chain_id=cursor.chain_id)
        .select_related("block")
        .order_by("block__number", "log_index")
    )


# ---------------------------------------------------------------------- pools


def _opened(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    word = bytes.fromhex(given["poolId"].removeprefix("0x"))
    model_id = id_from_word(word)
    name = "" if model_id else word.rstrip(b"\0").decode("ascii", "replace")
    StakePool.objects.create(
        pool_id=given["poolId"],
        name=name,
        model_id=model_id,
        kind=KINDS[str(given["kind"])],
        wait=int(given["wait"]),
        period=int(given["period"]),
        updated_at=log.block.timestamp,
    )


def _closed(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    StakePool.objects.filter(pool_id=given["poolId"]).update(closed=given["closed"])


def _period(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    StakePool.objects.filter(pool_id=given["poolId"]).update(period=int(given["period"]))


def _funded(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    pool = _pool(given)
    flowed = pool.stream.at(log.block.timestamp)
    _keep(pool, replace(flowed, left=int(given["left"]), rate=int(given["rate"])))
    pool.rewards += int(given["amount"])
    pool.save()


# ---------------------------------------------------------------------- stakes


def _staked(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    pool, mine = _settled(log, given)
    amount = int(given["amount"])
    mine.staked += amount
    pool.staked += amount
    mine.releases_at = int(given["releasesAt"])
    _save(pool, mine)


def _unstaked(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    pool, mine = _settled(log, given)
    amount = int(given["amount"])
    pool.staked -= amount
    mine.staked -= amount
    if pool.kind == StakePool.Kind.FLEXIBLE:
        mine.cooling += amount
        mine.releases_at = int(given["releasesAt"])
    _save(pool, mine)


def _withdrawn(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    """A locked pool pays with the `Unstaked` before it, so that nothing cools there."""
    pool = _pool(given)
    if pool.kind == StakePool.Kind.FLEXIBLE:
        mine = pool.positions.get(address=given["account"])
        mine.cooling -= int(given["amount"])
        mine.save(update_fields=["cooling"])


def _claimed(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    pool, mine = _settled(log, given)
    amount = int(given["amount"])
    mine.earned -= amount
    mine.claimed += amount
    pool.rewards -= amount
    _save(pool, mine)


# ---------------------------------------------------------------------- slashes


def _slash_proposed(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    mine = _pool(given).positions.get(address=given["account"])
    slash = PoolSlash.objects.create(
        number=int(given["slashId"]),
        position=mine,
        share=int(given["share"]),
        amount=int(given["amount"]),
        bond=int(given["bond"]),
        evidence=given["evidence"],
        executable_at=int(given["executableAt"]),
        tx_hash=log.tx_hash,
    )
    slashnotices.tell_proposed(slash, log)


def _slash_appealed(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    PoolSlash.objects.filter(number=int(given["slashId"])).update(
        state=PoolSlash.State.APPEALED,
        statement=given["statement"],
        executable_at=int(given["executableAt"]),
    )
    slashnotices.tell_appealed(_slash(given), log)


def _slash_executed(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    pool, mine = _settled(log, given)
    amount = int(given["amount"])
    from_staked = min(mine.staked, amount)
    mine.staked -= from_staked
    mine.cooling -= amount - from_staked
    pool.staked -= from_staked
    cursor.slashed += amount + int(given["bond"])
    _save(pool, mine)
    _close_slash(log, given, PoolSlash.State.EXECUTED)


def _slash_canceled(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    pool = _pool(given)
    mine = pool.positions.get(address=given["account"])
    bond = int(given["bond"])
    mine.earned += bond
    pool.rewards += bond
    _save(pool, mine)
    _close_slash(log, given, PoolSlash.State.CANCELED)


def _collected(cursor: PoolMirror, log: ChainLog, given: Given) -> None:
    cursor.slashed -= int(given["amount"])


# ---------------------------------------------------------------------- private


def _pool(given: Given) -> StakePool:
    return StakePool.objects.get(pool_id=given["poolId"])


def _settled(log: ChainLog, given: Given) -> tuple[StakePool, StakePosition]:
    """The pool flowed up to the event, and the position with what it has earned until then."""
    pool = _pool(given)
    _keep(pool, pool.stream.at(log.block.timestamp))
    mine = StakePosition.objects.filter(pool=pool, address=given["account"]).first()
    mine = mine or StakePosition(pool=pool, address=given["account"])
    mine.earned += grown(mine.staked, pool.index, mine.index)
    mine.index = pool.index
    return pool, mine


def _keep(pool: StakePool, stream: Stream) -> None:
    pool.left, pool.rate = stream.left, stream.rate
    pool.index, pool.updated_at = stream.index, stream.updated_at


def _save(pool: StakePool, mine: StakePosition) -> None:
    pool.save()
    mine.save()


def _slash(given: Given) -> PoolSlash:
    return PoolSlash.objects.select_related("position").get(number=int(given["slashId"]))


def _close_slash(log: ChainLog, given: Given, state: PoolSlash.State) -> None:
    PoolSlash.objects.filter(number=int(given["slashId"])).update(state=state)
    slashnotices.tell_closed(_slash(given), log)


Handler = Callable[[PoolMirror, ChainLog, Given], None]
_HANDLERS: dict[str, Handler] = {
    "PoolOpened": _opened,
    "PoolClosed": _closed,
    "PeriodChanged": _period,
    "RewardsFunded": _funded,
    "Staked": _staked,
    "Unstaked": _unstaked,
    "Withdrawn": _withdrawn,
    "RewardsClaimed": _claimed,
    "SlashProposed": _slash_proposed,
    "SlashAppealed": _slash_appealed,
    "SlashExecuted": _slash_executed,
    "SlashCanceled": _slash_canceled,
    "SlashedCollected": _collected,
}
