"""What was booked for events of blocks that were final, and that the chain took back all the same.

Staff have lifted the halt by then. Each is undone in the transaction that takes the block away; our
own transactions are sent again, and what comes again is booked again.
"""

from datetime import datetime
from uuid import UUID

import pgtrigger
from django.db import transaction

from accounts import audit
from accounts.models import User
from accounts.notifications import notify
from ledger.models import Claim, Distribution, Entry, PayoutAddress
from ledger.services import past_finality
from ledger.services.alarms import alarm_staff
from ledger.services.claims import is_ours
from ledger.services.posting import Cause
from ledger.services.taking_turns import beside_no_publication
from ledger.words import open_text

State = Distribution.State


@transaction.atomic
def undo_funding(*, batch_id: UUID | None, at: datetime) -> Entry | None:
    """The chain took back, past a final block, that a distribution was funded.

    Its intent is sent again. None where nothing was booked.
    """
    named = [batch_id] if batch_id else []
    distribution = Distribution.objects.select_for_update(of=("self",)).filter(pk__in=named).first()
    if distribution is None:
        return None
    cause = Cause("distribution", distribution.pk)
    booked = past_finality.standing(Entry.Kind.FUNDING, cause)
    if booked is None:
        return None
    distribution.funded_at = None
    distribution.save(update_fields=["funded_at"])
    return past_finality.undo(booked, at=at)


@transaction.atomic
def undo_gift(*, chain_id: int, tx_hash: str, log_index: int, at: datetime) -> Entry | None:
    """The chain took a gift back, past a final block. None where none was booked."""
    key = f"gift:{chain_id}:{tx_hash.lower()}:{log_index}"
    first = Entry.objects.filter(idempotency_key=key).first()
    if first is None:
        return None
    cause = Cause("entry", first.pk)
    undone = past_finality.times_undone(cause)
    last = Entry.objects.filter(idempotency_key=f"{key}:{undone}" if undone else key).first()
    return None if last is None else past_finality.undo(last, at=at, cause=cause)


@transaction.atomic
def undo_root(*, epoch: int, root: str, at: datetime) -> None:
    """The chain took back, past a final block, that this root is in force: it is sent again.

    Where a later epoch is under way already, only staff are told: its transactions stand behind
    those of this one, so it comes to no end before this one did.
    """
    distribution = (
        Distribution.objects.select_for_update(of=("self",))
        .filter(epoch=epoch, root__iexact=root, state=State.ACTIVE)
        .first()
    )
    if distribution is None:
        return
    if not Distribution.objects.filter(state__in=Distribution.IN_FLIGHT).exists():
        distribution.state, distribution.active_at = State.ROOT_SUBMITTED, None
        distribution.save(update_fields=["state", "active_at"])
    alarm_staff(
        title=f"The chain took back the root of epoch {epoch}; nothing can be claimed under it",
        body="Its transaction is sent again. Look whether it was mined before you publish more.",
        url=f"/explorer/distributions/{distribution.pk}/",
        at=at,
    )


@transaction.atomic
def undo_claim(*, tx_hash: str, log_index: int, at: datetime) -> Claim | None:
    """The chain took back, past a final block, that this claim was paid: the money is in escrow.

    Where it was ours it is on its way again, else the address can claim once more. A relay fee that
    was settled stays so: the same transaction is sent again. None where nothing was booked.
    """
    beside_no_publication()
    found = Claim.objects.filter(
        tx_hash=tx_hash.lower(), log_index=log_index, state=Claim.State.PAID
    ).first()
    if found is None:
        return None
    payee = PayoutAddress.objects.select_for_update().get(pk=found.payee_id)
    claim = Claim.objects.select_for_update(of=("self",)).select_related("entry").get(pk=found.pk)
    if claim.state != Claim.State.PAID or claim.entry is None:
        return None
    payee.claimed -= claim.amount
    # The contract's own total fell with its block, and only there may ours.
    with pgtrigger.ignore("ledger.PayoutAddress:never_falls"):
        payee.save(update_fields=["claimed"])
    asked = payee.claims.filter(state=Claim.State.REQUESTED).exists()
    ours = is_ours(claim, tx_hash)
    claim.state = Claim.State.REQUESTED if ours and not asked else Claim.State.VANISHED
    claim.entry, claim.paid_at = past_finality.undo(claim.entry, at=at), None
    claim.save(update_fields=["state", "entry", "paid_at"])
    audit.record(
        actor=None,
        verb="ledger.claim_undone",
        target=claim,
        at=at,
        data={"address": payee.address, "amount": str(claim.amount), "tx": claim.tx_hash},
    )
    for owner in User.objects.filter(wallets__address__iexact=payee.address):
        notify(
            user=owner,
            kind="ledger.claim_undone",
            url="/earnings/",
            at=at,
            title=f"The chain took back a claim of {open_text(claim.amount)} OPEN",
            body="It is sent again." if ours else "Nothing is lost: claim it again.",
        )
    return claim
