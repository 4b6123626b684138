"""What the events of our contracts, and the fate of our intents, mean for the ledger.

Handlers run in the indexer's transaction, once a block is safe for what comes in and once it is
final for what goes out; each is idempotent by (transaction hash, place in the transaction). They
raise LedgerError where the chain did something that the ledger cannot explain.
"""

from datetime import UTC, datetime
from typing import Any, TypedDict
from uuid import UUID

from ledger.calldata import id_from_word
from ledger.models.chain import ChainLog, Intent
from ledger.onchain import require_deployment
from ledger.services import (
    chain,
    claims,
    deposits,
    payouts,
    poolfunding,
    poolslashes,
    roots,
    vanished,
)

# Names no account: the deposit is kept apart.
NO_ACCOUNT = UUID(int=0)


class Place(TypedDict):
    """Where on which chain an event stands."""

    chain_id: int
    tx_hash: str
    log_index: int


class Payment(TypedDict):
    """A payment of a batch as an event of the Gateway tells it."""

    batch_id: UUID | None
    place: int
    address: str
    amount: int
    tx_hash: str


def register() -> None:
    """Called when the app is ready."""
    chain.on_log("Gateway", "Deposited", deposited, undo=deposit_gone)
    chain.on_log("Gateway", "DistributorFunded", distributor_funded, final=True, undo=funding_gone)
    chain.on_log("Gateway", "Withdrawn", withdrawn, final=True, undo=payment_gone)
    chain.on_log("Gateway", "Refused", refused, final=True, undo=payment_gone)
    chain.on_log("RewardDistributor", "Funded", funded, final=True, undo=gift_gone)
    chain.on_log("RewardDistributor", "RootProposed", root_proposed, final=True)
    chain.on_log("RewardDistributor", "RootRevoked", root_revoked, final=True)
    chain.on_log("RewardDistributor", "RootActivated", root_activated, final=True, undo=root_gone)
    chain.on_log("RewardDistributor", "Claimed", claimed, final=True, undo=claim_gone)
    chain.on_log("Gateway", "StakersFunded", stakers_funded, final=True, undo=stakers_gone)
    chain.on_intent(Intent.Kind.STAKERS, poolfunding.on_intent_changed)
    chain.on_intent(Intent.Kind.SLASH, poolslashes.on_intent_changed)
    for kind in (Intent.Kind.FUND, Intent.Kind.PUBLISH, Intent.Kind.CLAIM):
        chain.on_intent(kind, intent_changed)
    chain.on_intent(Intent.Kind.WITHDRAW, payouts.on_intent_changed)


def deposited(log: ChainLog, at: datetime) -> None:
    deposits.credit_deposit(
        account_id=_uuid(log.arguments["accountId"]) or NO_ACCOUNT,
        amount=int(log.arguments["amount"]),
        at=at,
        **_place(log),
    )


def distributor_funded(log: ChainLog, at: datetime) -> None:
    roots.on_funded(
        batch_id=_uuid(log.arguments["batchId"]),
        amount=int(log.arguments["amount"]),
        at=at,
        **_place(log),
    )


def stakers_funded(log: ChainLog, at: datetime) -> None:
    poolfunding.on_stakers_funded(
        batch_id=_uuid(log.arguments["batchId"]),
        pool_id=log.arguments["poolId"],
        amount=int(log.arguments["amount"]),
        at=at,
        **_place(log),
    )


def funding_gone(log: ChainLog, at: datetime) -> None:
    vanished.undo_funding(batch_id=_uuid(log.arguments["batchId"]), at=at)


def stakers_gone(log: ChainLog, at: datetime) -> None:
    poolfunding.on_stakers_gone(batch_id=_uuid(log.arguments["batchId"]), at=at)


def deposit_gone(log: ChainLog, at: datetime) -> None:
    deposits.undo_deposit(at=at, **_place(log))


def payment_gone(log: ChainLog, at: datetime) -> None:
    payouts.reopen_paid(
        batch_id=_uuid(log.arguments["batchId"]), place=int(log.arguments["index"]), at=at
    )


def withdrawn(log: ChainLog, at: datetime) -> None:
    payouts.on_withdrawn(**_payment(log), at=at)


def refused(log: ChainLog, at: datetime) -> None:
    payouts.on_refused(**_payment(log), at=at)


def funded(log: ChainLog, at: datetime) -> None:
    sender = log.arguments["from"]
    # What the Gateway sends is booked by the Gateway's own event.
    if sender.lower() != require_deployment().address("Gateway").lower():
        roots.on_gift(sender=sender, amount=int(log.arguments["amount"]), at=at, **_place(log))


def gift_gone(log: ChainLog, at: datetime) -> None:
    vanished.undo_gift(at=at, **_place(log))


def root_gone(log: ChainLog, at: datetime) -> None:
    vanished.undo_root(epoch=int(log.arguments["epoch"]), root=log.arguments["root"], at=at)


def claim_gone(log: ChainLog, at: datetime) -> None:
    vanished.undo_claim(tx_hash=log.tx_hash, log_index=log.place_in_transaction, at=at)


def root_proposed(log: ChainLog, at: datetime) -> None:
    roots.on_root_proposed(
        epoch=int(log.arguments["epoch"]),
        root=log.arguments["root"],
        activates_at=datetime.fromtimestamp(int(log.arguments["activatesAt"]), UTC),
    )


def root_revoked(log: ChainLog, at: datetime) -> None:
    roots.on_root_revoked(epoch=int(log.arguments["epoch"]), root=log.arguments["root"], at=at)


def root_activated(log: ChainLog, at: datetime) -> None:
    roots.on_root_published(
        epoch=int(log.arguments["epoch"]),
        root=log.arguments["root"],
        chain_id=log.block.chain_id,
        at=at,
    )


def claimed(log: ChainLog, at: datetime) -> None:
    claims.record_claim(
        address=log.arguments["account"],
        amount=int(log.arguments["amount"]),
        cumulative=int(log.arguments["cumulative"]),
        at=at,
        **_place(log),
    )


def intent_changed(intent: Intent, at: datetime) -> None:
    if intent.state != Intent.State.FAILED:
        return
    reason = intent.failure_reason or "The chain refused the transaction."
    if intent.kind == Intent.Kind.CLAIM:
        claims.on_intent_failed(intent_id=intent.pk, reason=reason, at=at)
    else:
        roots.on_intent_failed(intent_id=intent.pk, reason=reason, at=at)


def _place(log: ChainLog) -> Place:
    return {
        "chain_id": log.block.chain_id,
        "tx_hash": log.tx_hash,
        "log_index": log.place_in_transaction,
    }


def _payment(log: ChainLog) -> Payment:
    return {
        "batch_id": _uuid(log.arguments["batchId"]),
        "place": int(log.arguments["index"]),
        "address": log.arguments["to"],
        "amount": int(log.arguments["amount"]),
        "tx_hash": log.tx_hash,
    }


def _uuid(word: Any) -> UUID | None:
    return id_from_word(bytes.fromhex(str(word).removeprefix("0x")))
