"""The stop: the chain took back what it had called final, and nothing goes on until staff looked.

The halt is a row, so it outlives every process. The indexer reads nothing, the sender signs
nothing; pages and everything off the chain go on. Lifting it lets the mirror go back to the last
block that it shares with the chain: what hung on the blocks above is undone, and what was paid in
them is sent again as the same bytes.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction

from accounts import audit, events
from accounts.models import User
from ledger.errors import LedgerError
from ledger.models.chain import ChainHead
from ledger.services.alarms import alarm_staff

logger = logging.getLogger(__name__)


class NotHalted(LedgerError):
    """There is no halt to lift."""

    code = "not_halted"


def is_halted(chain_id: int) -> bool:
    """Whether nothing may be read from this chain or sent to it."""
    return ChainHead.objects.filter(chain_id=chain_id, halted_at__isnull=False).exists()


@transaction.atomic
def halt_chain(*, chain_id: int, reason: str, ancestor: int, at: datetime) -> bool:
    """Stop mirror and sender and tell staff; False where they stand still already.

    `ancestor` is the number of the last block that mirror and chain share.
    """
    running = ChainHead.objects.filter(chain_id=chain_id, halted_at__isnull=True)
    if not running.update(halted_at=at, halt_reason=reason, halt_ancestor=ancestor, problem=reason):
        return False
    logger.critical("chain %s is halted: %s", chain_id, reason)
    head = ChainHead.objects.get(chain_id=chain_id)
    data = {"chain_id": chain_id, "reason": reason, "ancestor": ancestor}
    audit.record(actor=None, verb="ledger.chain_halted", target=head, at=at, data=data)
    events.emit("ledger.chain_halted", data, at=at)
    alarm_staff(
        title=f"Chain {chain_id} took back what was final; sending and reading stand still",
        body=reason,
        at=at,
    )
    return True


@transaction.atomic
def lift_halt(*, chain_id: int, acting_user: User | None, note: str, at: datetime) -> ChainHead:
    """Go on, back from the last shared block. `note` says what was found; it is kept.

    Raises NotHalted. The caller has made sure that staff ask.
    """
    head = (
        ChainHead.objects.select_for_update()
        .filter(chain_id=chain_id, halted_at__isnull=False)
        .first()
    )
    if head is None:
        raise NotHalted("The chain is not halted; there is nothing to lift.")
    ancestor = head.final_number if head.halt_ancestor is None else head.halt_ancestor
    data = {"chain_id": chain_id, "reason": head.halt_reason, "ancestor": ancestor, "note": note}
    # Nothing above the shared block is final any more, so the next step may rewind to it.
    head.final_number = min(head.final_number, ancestor)
    head.safe_number = min(head.safe_number, ancestor)
    head.halted_at, head.halt_reason, head.halt_ancestor, head.problem = None, "", None, ""
    head.save(
        update_fields=[
            "final_number", "safe_number", "halted_at", "halt_reason", "halt_ancestor", "problem",
        ]
    )  # fmt: skip
    audit.record(actor=acting_user, verb="ledger.halt_lifted", target=head, at=at, data=data)
    events.emit("ledger.halt_lifted", data, at=at)
    return head
