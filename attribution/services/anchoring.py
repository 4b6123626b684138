"""Checkpoints on the chain: which is sent, and what became of it.

One anchor at a time is on its way, each for the newest head. A head that was left out is covered
by the next one, of which it is shown to be a prefix.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from attribution.models.log import Checkpoint
from ledger.models import Intent
from ledger.services import chain

State = Checkpoint.State


def register() -> None:
    """Called when the app is ready: hear what becomes of anchors."""
    chain.on_intent(Intent.Kind.ANCHOR, anchor_changed)


def anchor_newest(*, at: datetime) -> bool:
    """Ask the ledger to anchor the newest checkpoint, unless one is on its way; whether it did."""
    with transaction.atomic():
        newest = Checkpoint.objects.select_for_update().order_by("-size").first()
        if newest is None or newest.state != State.RECORDED:
            return False
        if Checkpoint.objects.filter(state=State.SUBMITTED).exists():
            return False
        intent = chain.request_anchor(
            sequence=newest.sequence,
            size=newest.size,
            root=bytes.fromhex(newest.root),
            cause_id=newest.pk,
            at=at,
        )
        # There is no chain, or it refused this head before: the next one is tried instead.
        if intent is None or intent.state == Intent.State.FAILED:
            return False
        newest.state = State.SUBMITTED
        newest.anchor_requested_at = at
        newest.anchor_intent_id = intent.pk
        newest.save(update_fields=["state", "anchor_requested_at", "anchor_intent_id"])
    return True


def anchor_changed(intent: Intent, at: datetime) -> None:
    """An anchor became final, failed, or was taken back; then the newest head may follow.

    Runs in the transaction of the intent's change.
    """
    row = Checkpoint.objects.select_for_update().filter(anchor_intent_id=intent.pk).first()
    if row is None:
        return
    if intent.state == Intent.State.FINAL:
        row.state = State.ANCHORED
    elif intent.state == Intent.State.FAILED:
        row.state = State.RECORDED
    else:
        row.state = State.SUBMITTED
    row.save(update_fields=["state"])
    if row.state != State.SUBMITTED:
        anchor_newest(at=at)


def anchor_of(head: Checkpoint) -> dict[str, Any]:
    """How far a head's anchor is, and where on the chain anyone finds it once it is final."""
    told: dict[str, Any] = {"state": head.state, "sequence": head.sequence}
    asked = head.anchor_intent_id if head.state == State.ANCHORED else None
    intent = Intent.objects.filter(pk=asked).first() if asked else None
    if intent is not None:
        told |= {
            "chain_id": intent.chain_id,
            "contract": intent.to,
            "transaction": intent.tx_hash,
            "block": intent.block_number,
        }
    return told
