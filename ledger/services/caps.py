"""A person's word for an intent that moves more than the caps let out by themselves."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import audit, outbox
from accounts.models import User
from ledger.errors import LedgerError
from ledger.models.chain import Intent
from ledger.services.chain import QUEUE, SEND_TASK


class NotHeldBack(LedgerError):
    """No cap holds that intent back, or not any more."""

    code = "not_held_back"


@transaction.atomic
def lift_cap(*, intent_id: UUID, acting_user: User | None, note: str, at: datetime) -> Intent:
    """Let this one intent go out, whatever the caps say; it then counts for no day's cap either.

    `note` says why; it is kept. Raises NotHeldBack. The caller has made sure that staff ask.
    """
    intent = Intent.objects.select_for_update(of=("self",)).filter(pk=intent_id).first()
    if intent is None or not intent.waits_for_staff:
        raise NotHeldBack("No cap holds this intent back; there is nothing to lift.")
    intent.cap_lifted_at = at
    intent.save(update_fields=["cap_lifted_at"])
    data = {"outflow": str(intent.outflow), "cap": str(intent.held_by_cap), "note": note}
    audit.record(actor=acting_user, verb="ledger.cap_lifted", target=intent, at=at, data=data)
    outbox.enqueue(task=SEND_TASK, args=[], queue=QUEUE, at=at, key=SEND_TASK)
    return intent
