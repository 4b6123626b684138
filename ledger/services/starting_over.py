"""Forgetting a local chain that is gone. Entries stay: the ledger remembers what it booked."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from accounts import events
from ledger.models.chain import ChainBlock, ChainHead, ChainWallet, Intent
from ledger.services.chain import announce


@transaction.atomic
def forget_chain(*, chain_id: int) -> None:
    """Drop the mirror of `chain_id` and fail what was on its way there."""
    now = timezone.now()
    open_intents = Intent.objects.filter(chain_id=chain_id).exclude(state__in=Intent.SETTLED)
    for intent in open_intents:
        intent.state = Intent.State.FAILED
        intent.failure_reason = "The local chain was started afresh."
        intent.settled_at = now
        intent.save(update_fields=["state", "failure_reason", "settled_at"])
        announce(intent, at=now)
    # Nonces start again at 0 and must not meet those of the chain that is gone.
    Intent.objects.filter(chain_id=chain_id).update(wallet=None)
    ChainWallet.objects.filter(chain_id=chain_id).delete()
    ChainBlock.objects.filter(chain_id=chain_id).delete()
    ChainHead.objects.filter(chain_id=chain_id).delete()
    events.emit("ledger.chain_rewound", {"chain_id": chain_id, "number": -1}, at=now)
