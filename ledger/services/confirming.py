"""From mined to final: MINED, SAFE, FINAL or FAILED, and back to SIGNED where the block is gone.

A transaction that the contract refused has FAILED only once its block is final: before that the
same bytes may succeed in another block, and what was given back would be paid as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from ledger.chain.artifacts import explain_revert
from ledger.chain.client import ChainClient, Receipt, RpcError
from ledger.models.chain import ChainHead, ChainWallet, Intent, IntentAttempt
from ledger.services.chain import announce
from ledger.services.outgoing import MINED_FIELDS, fill_in_receipt
from ledger.updating import write

State = Intent.State
AT_ONCE = 500
TAKEN_BACK = (
    "state", "tx_hash", "succeeded", "block_number", "block_hash", "gas_used", "fee", "mined_at",
    "settled_at",
)  # fmt: skip


def confirm(client: ChainClient, wallet: ChainWallet, *, at: datetime) -> int:
    """Move mined intents on as far as the mirror has seen blocks become safe and final.

    Each is looked up once more: the mirror knows blocks, only a receipt tells that ours is in it.
    Raises UnreachableError.
    """
    head = ChainHead.objects.filter(chain_id=wallet.chain_id).first()
    if head is None or head.problem or head.halted_at is not None:
        return 0
    waiting = list(
        Intent.objects.filter(wallet=wallet)
        .filter(
            Q(state=State.MINED, block_number__lte=head.safe_number)
            | Q(state=State.SAFE, block_number__lte=head.final_number)
        )
        .order_by("nonce")
        .defer("data")[:AT_ONCE]
    )
    if not waiting:
        return 0
    receipts = client.receipts([intent.tx_hash for intent in waiting], logs=False)
    gone = _gone(client, [one for one in waiting if one.tx_hash not in receipts])
    reasons = {
        one.pk: _why(client, one, wallet.address)
        for one in waiting
        if one.tx_hash in receipts
        and not receipts[one.tx_hash].succeeded
        and not one.failure_reason
        and receipts[one.tx_hash].block_number <= head.final_number
    }
    with transaction.atomic():
        return _move([one.pk for one in waiting], receipts, gone, reasons, head, at)


def _move(
    ids: Sequence[UUID],
    receipts: dict[str, Receipt],
    gone: set[UUID],
    reasons: dict[UUID, str],
    head: ChainHead,
    at: datetime,
) -> int:
    rows = (
        Intent.objects.select_for_update(of=("self",))
        .filter(pk__in=ids, state__in=[State.MINED, State.SAFE])
        .defer("data")
        .order_by("id")
    )
    moved: list[Intent] = []
    lost: list[Intent] = []
    for row in rows:
        receipt = receipts.get(row.tx_hash)
        if receipt is None:
            if row.pk in gone:
                lost.append(row)
            continue
        before = (row.state, row.block_hash)
        if receipt.block_hash != row.block_hash:
            # A reorganisation put it into another block.
            fill_in_receipt(row, receipt, noop=_is_noop(receipt.tx_hash))
        row.state = _state(row, head)
        if row.state in Intent.SETTLED:
            row.settled_at = at
        if row.state == State.FAILED:
            row.failure_reason = (
                row.failure_reason or f"The contract refused it: {reasons.get(row.pk, 'reverted')}"
            )[:2000]
        if (row.state, row.block_hash) != before:
            moved.append(row)
    write(moved, [*MINED_FIELDS, "settled_at"])
    for row in moved:
        announce(row, at=at)
    take_back_all(lost, at=at)
    return len(moved) + len(lost)


def _state(row: Intent, head: ChainHead) -> State:
    number = row.block_number or 0
    if number <= head.final_number:
        return State.FINAL if row.succeeded else State.FAILED
    return State.SAFE if number <= head.safe_number else State.MINED


def _gone(client: ChainClient, missing: Sequence[Intent]) -> set[UUID]:
    """Those whose block is not in the chain any more. A node that shows no receipt but the same
    block only lags, and one that has not come to that block yet says nothing."""
    gone: set[UUID] = set()
    hashes: dict[int, str | None] = {}
    for intent in missing:
        number = intent.block_number or 0
        if number not in hashes:
            block = client.block(number)
            hashes[number] = None if block is None else block.hash
        if hashes[number] not in (None, intent.block_hash):
            gone.add(intent.pk)
    return gone


def take_back_all(intents: Sequence[Intent], *, at: datetime) -> None:
    """Their block is gone: the same bytes are sent again. Call it in a transaction, rows locked.

    All attempts count as unsent, since the node may have dropped them with the block. The last one
    goes out: another of them may be mined all the same, but no two.
    """
    tries = IntentAttempt.objects.filter(intent__in=[intent.pk for intent in intents])
    last: dict[tuple[UUID, int | None], str] = {
        (intent_id, nonce): tx_hash
        for intent_id, nonce, tx_hash in tries.values_list("intent_id", "nonce", "tx_hash")
    }
    for intent in intents:
        intent.tx_hash = last.get((intent.pk, intent.nonce), intent.tx_hash)
        intent.state, intent.succeeded = State.SIGNED, None
        intent.block_number, intent.block_hash = None, ""
        intent.gas_used, intent.fee, intent.mined_at, intent.settled_at = None, 0, None, None
    write(list(intents), TAKEN_BACK)
    tries.update(sent_at=None, accepted_at=None)
    for intent in intents:
        announce(intent, at=at)


def _is_noop(tx_hash: str) -> bool:
    return IntentAttempt.objects.filter(tx_hash=tx_hash, noop=True).exists()


def _why(client: ChainClient, intent: Intent, address: str) -> str:
    """What the contract says when asked once more; the state may have changed since."""
    try:
        client.call(intent.to, bytes(intent.data), sender=address, value=intent.value)
    except RpcError as error:
        return explain_revert(error.data) if error.data else error.message
    return "it reverted in its block, and would not now"
