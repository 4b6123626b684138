"""The stakers' part of fees on its way to the stake pools: one batch for each pool and period.

Nothing moves where nobody is staked, where no chain is, or where the sum is not worth its gas: the
money waits on its account. What is divided was earned before; a stake or a weight of today decides
over nothing that has left already.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from accounts import audit
from accounts.ids import uuid7
from ledger import calldata
from ledger.chain.deployment import Deployment
from ledger.errors import InvalidEntry, UnknownAccount
from ledger.models import Account, Entry, Intent
from ledger.models.pools import PoolFunding, StakePool
from ledger.onchain import current_deployment
from ledger.services import chain, past_finality, pools
from ledger.services.locking import lock_accounts
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, post_entry
from ledger.splits import BASIS_POINTS, divide

LOCK = 0x6F6C_7066  # "olpf": one funding of pools at a time
CAUSE = "pool_funding"
CONTRACT = "StakePools"
SOURCES = (Account.Kind.STAKERS, Account.Kind.MODEL_STAKES)


@dataclass(slots=True)
class Source:
    """An account whose money is for stakers, in all its rows."""

    kind: Account.Kind
    owner: UUID | None
    rows: Sequence[Account]
    taken: int = 0

    @property
    def total(self) -> int:
        return sum(row.balance for row in self.rows)

    def draw(self, amount: int) -> list[Leg]:
        """Legs that take `amount` out of the rows, one after the other, behind what was taken."""
        legs, start, end, before = [], self.taken, self.taken + amount, 0
        for row in self.rows:
            part = min(before + row.balance, end) - max(before, start)
            before += row.balance
            if part > 0:
                legs.append(Leg(row, -part))
        self.taken = end
        return legs


@transaction.atomic
def fund_pools(*, locked_weight_bps: int, at: datetime) -> list[PoolFunding]:
    """Send what waits for stakers to their pools; returns what was sent.

    `locked_weight_bps` is what a wei in a locked pool counts against one in a flexible pool.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    deployment = current_deployment()
    if deployment is None or CONTRACT in deployment.missing:
        return []
    while pools.mirror():
        pass
    # A fee touches some of these as well, and a refund takes out of them.
    lock_accounts([*Account.objects.filter(kind__in=SOURCES), account_for(Account.Kind.POOLING)])
    return [
        _send(deployment, source, pool_id, amount, at)
        for source in _sources()
        for pool_id, amount in _divided(source, locked_weight_bps).items()
        if amount
    ]


@transaction.atomic
def on_stakers_funded(
    *, batch_id: UUID | None, pool_id: str, amount: int, chain_id: int, tx_hash: str,
    log_index: int, at: datetime,
) -> Entry:  # fmt: skip
    """`Gateway.StakersFunded` is final: the money has left the Gateway.

    Raises UnknownAccount where the batch is none of ours, InvalidEntry where pool or amount are
    others: the contracts did something that the ledger did not ask for.
    """
    named = [batch_id] if batch_id else []
    funding = PoolFunding.objects.select_for_update(of=("self",)).filter(pk__in=named).first()
    if funding is None:
        raise UnknownAccount(f"Pool {pool_id} was funded by {tx_hash} for no batch of ours.")
    if (funding.amount, funding.pool_id) != (amount, pool_id):
        raise InvalidEntry(f"Batch {funding.pk} paid {amount} wei to {pool_id}.")
    if funding.state == PoolFunding.State.FAILED:
        raise InvalidEntry(f"Batch {funding.pk} was given back and was paid all the same.")
    cause = Cause(CAUSE, funding.pk)
    undone = past_finality.times_undone(cause)
    entry = post_entry(
        kind=Entry.Kind.POOLED,
        key=f"pooled:{funding.pk}:{undone}" if undone else f"pooled:{funding.pk}",
        at=at,
        legs=[
            Leg(account_for(Account.Kind.POOLING), -amount),
            Leg(account_for(Account.Kind.GATEWAY), amount),
        ],
        cause=cause,
    )
    if funding.state == PoolFunding.State.UNDER_WAY:
        _close(funding, PoolFunding.State.PAID, entry, at)
    return entry


@transaction.atomic
def on_stakers_gone(*, batch_id: UUID | None, at: datetime) -> Entry | None:
    """The chain took back, past a final block, that a pool was funded: it is on its way again.

    None where nothing was booked.
    """
    named = [batch_id] if batch_id else []
    funding = (
        PoolFunding.objects.select_for_update(of=("self",))
        .select_related("closed_by")
        .filter(pk__in=named, state=PoolFunding.State.PAID)
        .first()
    )
    if funding is None or funding.closed_by is None:
        return None
    entry = past_finality.undo(funding.closed_by, at=at)
    funding.state, funding.closed_by, funding.closed_at = PoolFunding.State.UNDER_WAY, None, None
    funding.save(update_fields=["state", "closed_by", "closed_at"])
    return entry


@transaction.atomic
def on_intent_changed(intent: Intent, at: datetime) -> None:
    """The chain refused it for good: the money goes back and waits for the next period."""
    if intent.state != Intent.State.FAILED:
        return
    funding = (
        PoolFunding.objects.select_for_update(of=("self",))
        .filter(intent_id=intent.pk, state=PoolFunding.State.UNDER_WAY)
        .first()
    )
    if funding is None:
        return
    entry = post_entry(
        kind=Entry.Kind.RETURN,
        key=f"pooling-back:{funding.pk}",
        at=at,
        legs=[
            Leg(account_for(Account.Kind.POOLING), -funding.amount),
            Leg(
                account_for(Account.Kind(funding.source_kind), funding.source_owner),
                funding.amount,
            ),
        ],
        cause=Cause(CAUSE, funding.pk),
    )
    funding.failure_reason = intent.failure_reason or "The chain refused the transaction."
    _close(funding, PoolFunding.State.FAILED, entry, at)


def _sources() -> Iterator[Source]:
    """Accounts with enough for a transaction, none of whose money is on its way already."""
    under_way = set(
        PoolFunding.objects.filter(state__in=PoolFunding.OPEN).values_list(
            "source_kind", "source_owner"
        )
    )
    rows: dict[tuple[str, UUID | None], list[Account]] = defaultdict(list)
    for row in Account.objects.filter(kind__in=SOURCES, balance__gt=0).order_by("id"):
        rows[row.kind, row.owner_id].append(row)
    for (kind, owner), accounts in rows.items():
        source = Source(Account.Kind(kind), owner, accounts)
        if (kind, owner) not in under_way and source.total >= settings.STAKERS_FUND_MINIMUM_WEI:
            yield source


def _divided(source: Source, locked_weight_bps: int) -> dict[str, int]:
    """What of it goes to which pool; nothing where nobody is staked."""
    if source.kind == Account.Kind.MODEL_STAKES:
        own = StakePool.objects.filter(model_id=source.owner, staked__gt=0).first()
        return {own.pool_id: source.total} if own else {}
    weights = {StakePool.Kind.LOCKED: locked_weight_bps}
    shares = [
        (pool.pool_id, pool.staked * weights.get(StakePool.Kind(pool.kind), BASIS_POINTS))
        for pool in StakePool.objects.filter(model_id__isnull=True, staked__gt=0)
    ]
    return divide(source.total, shares) if shares else {}


def _send(
    deployment: Deployment, source: Source, pool_id: str, amount: int, at: datetime
) -> PoolFunding:
    identifier = uuid7()
    entry = post_entry(
        kind=Entry.Kind.POOLING,
        key=f"pooling:{identifier}",
        at=at,
        legs=[*source.draw(amount), Leg(account_for(Account.Kind.POOLING), amount)],
        cause=Cause(CAUSE, identifier),
    )
    intent = chain.request_intent(
        kind=Intent.Kind.STAKERS,
        to=deployment.address("Gateway"),
        data=calldata.fund_stakers(
            batch_id=identifier, pool_id=bytes.fromhex(pool_id[2:]), amount=amount
        ),
        key=f"{CAUSE}:{identifier}",
        cause_kind=CAUSE,
        cause_id=identifier,
        at=at,
    )
    funding = PoolFunding.objects.create(
        id=identifier,
        source_kind=source.kind,
        source_owner=source.owner,
        pool_id=pool_id,
        amount=amount,
        entry=entry,
        intent_id=intent.pk,
        created_at=at,
    )
    audit.record(
        actor=None,
        verb="ledger.pool_funded",
        target=funding,
        at=at,
        data={"pool": pool_id, "amount": str(amount), "entry": str(entry.pk)},
    )
    return funding


def _close(funding: PoolFunding, state: PoolFunding.State, entry: Entry, at: datetime) -> None:
    funding.state, funding.closed_by, funding.closed_at = state, entry, at
    funding.save(update_fields=["state", "closed_by", "closed_at", "failure_reason"])
