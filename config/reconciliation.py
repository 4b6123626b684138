"""Ledger = chain = log: the comparisons that need more than the ledger's own tables."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from django.conf import settings

from attribution.models import Receipt
from ledger.chain.deployment import Deployment
from ledger.models import ChainHead, ChainLog
from ledger.onchain import current_deployment
from ledger.reconciliation import (
    Finding,
    captured_amounts,
    check_contracts,
    check_stake_pools,
    credited_above,
    settled_amounts,
    settled_completions,
)
from ledger.services import pools

CHUNK = 2_000


class ChainNotReadable(Exception):
    """A chain is configured and could not be compared with."""


def check_log() -> list[Finding]:
    """Every receipt against the entries of its completion; differences add up, never cancel."""
    fees = parts = off_fees = off_parts = 0
    for batch in _batches():
        ids = [completion for completion, _, _ in batch]
        captured, settled = captured_amounts(ids), settled_amounts(ids)
        for completion, fee, amount in batch:
            fees += fee
            parts += amount
            off_fees += abs(captured.get(completion, 0) - fee)
            off_parts += abs(settled.get(completion, 0) - amount)
    without = settled_completions().exclude(cause_id__in=Receipt.objects.values("completion_id"))
    return [
        Finding("fees of the log's receipts", fees, fees + off_fees),
        Finding("contributors' parts of the log's receipts", parts, parts + off_parts),
        Finding("settlements without a receipt (rows)", 0, without.count()),
    ]


def check_chain() -> list[Finding]:
    """What the contracts held at the last final block against the ledger's accounts of them.

    Imports web3: for commands and the chain's worker alone. Raises ChainNotReadable.
    """
    if not settings.CHAIN_ENABLED:
        return []
    from ledger.chain.client import ChainClient, ChainError

    deployment = current_deployment()
    head = ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first()
    if deployment is None or head is None:
        raise ChainNotReadable("The contracts are not deployed, or nothing was read from them.")
    client = ChainClient(settings.CHAIN_RPC_URL)
    try:
        gateway, distributor = (
            client.balance(deployment.address(name), head.final_number)
            for name in ("Gateway", "RewardDistributor")
        )
        staked = _in_stake_pools(client, deployment, head)
    except ChainError as error:
        raise ChainNotReadable(f"Block {head.final_number} could not be read: {error}") from error
    unapplied = ChainLog.objects.filter(
        applied_at__isnull=True,
        block__chain_id=deployment.chain_id,
        block__number__lte=head.final_number,
    )
    deposited = credited_above(chain_id=deployment.chain_id, number=head.final_number)
    return [
        *check_contracts(gateway_wei=gateway, distributor_wei=distributor, deposited_wei=deposited),
        *staked,
        Finding("events of final blocks that are not booked (rows)", 0, unapplied.count()),
    ]


def _in_stake_pools(client: Any, deployment: Deployment, head: ChainHead) -> list[Finding]:
    """At the newest mirrored block, once all its events are in our tables; nothing before that."""
    if pools.CONTRACT in deployment.missing or pools.is_behind():
        return []
    held = client.balance(deployment.address(pools.CONTRACT), head.number)
    return [check_stake_pools(pools_wei=held)]


def _batches() -> Iterator[Sequence[tuple[UUID, int, int]]]:
    rows = Receipt.objects.order_by("id").values_list("completion_id", "fee", "amount")
    found = rows.iterator(chunk_size=CHUNK)
    while batch := list(islice(found, CHUNK)):
        yield batch
