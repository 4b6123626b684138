"""Watching the node that the mirror reads: what lasts is told to staff, once, and so is its end."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from accounts import audit
from ledger.models.chain import ChainHead
from ledger.services.alarms import alarm_staff

# A node that is away for a moment is no news.
GRACE = timedelta(minutes=1)


def report(*, chain_id: int, trouble: str, at: datetime) -> None:
    """Keep what a step of the mirror found wrong; "" where it found nothing.

    Money stands still meanwhile and nothing is lost: blocks that were read stay, the rest waits.
    """
    rows = ChainHead.objects.filter(chain_id=chain_id)
    if not trouble and not rows.exclude(trouble="").exists():
        return
    with transaction.atomic():
        head = rows.select_for_update().first()
        if head is None:
            return
        if trouble:
            _keep(head, trouble, at)
        else:
            _over(head, at)


def _keep(head: ChainHead, trouble: str, at: datetime) -> None:
    head.trouble, head.trouble_since = trouble[:2000], head.trouble_since or at
    if not head.trouble_told and at - head.trouble_since >= GRACE:
        head.trouble_told = True
        data = {"chain_id": head.chain_id, "trouble": head.trouble}
        audit.record(actor=None, verb="ledger.mirror_alarm", target=head, at=at, data=data)
        alarm_staff(
            title=f"Chain {head.chain_id} cannot be read; deposits and payments wait",
            body=f"{head.trouble} Look at the node at CHAIN_RPC_URL; reading goes on by itself.",
            at=at,
        )
    head.save(update_fields=["trouble", "trouble_since", "trouble_told"])


def _over(head: ChainHead, at: datetime) -> None:
    if head.trouble_told:
        data = {"chain_id": head.chain_id, "trouble": head.trouble}
        audit.record(actor=None, verb="ledger.mirror_alarm_over", target=head, at=at, data=data)
    head.trouble, head.trouble_since, head.trouble_told = "", None, False
    head.save(update_fields=["trouble", "trouble_since", "trouble_told"])
