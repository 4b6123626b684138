"""The way of withdrawals to the chain: gathered into batches, paid by the Gateway, and closed.

A batch is one intent, and the Gateway pays a batch's number once: whatever the sender does, each
withdrawal is paid at most once. It is closed by the Gateway's own event, once that is final; where
the batch can never be mined any more, the money comes back. Cost: one intent for 300 withdrawals,
one entry for each.
"""

from __future__ import annotations

import logging
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from accounts import audit, events
from accounts.ids import uuid7
from accounts.notifications import notify
from ledger import calldata
from ledger.errors import InvalidEntry, UnknownAccount
from ledger.models import Account, Entry, Intent, Withdrawal, WithdrawalBatch
from ledger.models.chain import ChainHead
from ledger.onchain import current_deployment
from ledger.services import chain
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, post_entry
from ledger.services.receivables import incoming, taken_back
from ledger.words import open_text

logger = logging.getLogger(__name__)
State = Withdrawal.State
LOCK = 0x6F6C_7061  # "olpa": one batcher at a time
# Gateway.BATCH_LIMIT.
BATCH_LIMIT = 300


def advance_withdrawals(*, at: datetime) -> int:
    """Batch what was asked for, and give back what can never be paid; returns how many moved.

    Each batch is a transaction of its own, so a process that dies leaves whole batches.
    """
    moved = 0
    while (batched := batch_withdrawals(at=at)) is not None:
        moved += batched.size
    for batch_id in _failed_batches():
        moved += return_batch(batch_id=batch_id, at=at)
    return moved


@transaction.atomic
def batch_withdrawals(*, at: datetime) -> WithdrawalBatch | None:
    """Write one intent for up to 300 withdrawals, the oldest first; None where there are none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    deployment = current_deployment()
    if deployment is None:
        return None
    waiting = list(
        Withdrawal.objects.select_for_update(of=("self",))
        .filter(state=State.REQUESTED)
        .order_by("id")[:BATCH_LIMIT]
    )
    if not waiting:
        return None
    batch_id = uuid7()
    intent = chain.request_intent(
        kind=Intent.Kind.WITHDRAW,
        to=deployment.address("Gateway"),
        data=calldata.withdraw(batch_id, [(one.address, one.amount) for one in waiting]),
        key=f"withdraw:{batch_id}",
        cause_kind="withdrawals",
        cause_id=batch_id,
        at=at,
    )
    batch = WithdrawalBatch.objects.create(
        id=batch_id,
        intent_id=intent.pk,
        size=len(waiting),
        amount=sum(one.amount for one in waiting),
    )
    for place, withdrawal in enumerate(waiting):
        withdrawal.batch, withdrawal.place, withdrawal.state = batch, place, State.BATCHED
    Withdrawal.objects.bulk_update(waiting, ["batch", "place", "state"])
    return batch


def on_intent_changed(intent: Intent, at: datetime) -> None:
    """From its signature on a batch may be paid at any moment; one that never was comes back."""
    batched = Withdrawal.objects.filter(batch_id=intent.cause_id)
    if intent.state == Intent.State.FAILED and _is_lost(intent):
        return_batch(batch_id=_required(intent.cause_id), at=at)
    elif intent.state in Intent.IN_FLIGHT:
        batched.filter(state=State.BATCHED).update(state=State.SUBMITTED)
        # Its failure was in a block that the chain took back: it may be paid after all.
        for withdrawal in batched.filter(state=State.FAILED).order_by("id"):
            reopen(withdrawal_id=withdrawal.pk, at=at)


@transaction.atomic
def on_withdrawn(
    *, batch_id: UUID | None, place: int, address: str, amount: int, tx_hash: str, at: datetime
) -> Withdrawal:
    """`Gateway.Withdrawn` is final: the money has left the contract.

    Raises UnknownAccount where we know of no such payment and InvalidEntry where we asked for
    another one.
    """
    withdrawal = _named(batch_id, place, address, amount, tx_hash)
    if withdrawal.state == State.PAID:
        return withdrawal
    _must_be_open(withdrawal)
    entry = post_entry(
        kind=Entry.Kind.PAYOUT,
        key=f"payout:{withdrawal.pk}:{withdrawal.reopened}",
        at=at,
        legs=[
            Leg(account_for(Account.Kind.WITHDRAWING, withdrawal.user_id), -withdrawal.amount),
            Leg(account_for(Account.Kind.GATEWAY), withdrawal.amount),
        ],
        cause=Cause("withdrawal", withdrawal.pk),
    )
    _close(withdrawal, State.PAID, entry, "", at, tx_hash)
    notify(
        user=withdrawal.user,
        kind="ledger.withdrawn",
        url="/wallet/",
        at=at,
        title=f"{open_text(withdrawal.amount)} OPEN were paid to {withdrawal.address[:10]}…",
    )
    return withdrawal


@transaction.atomic
def on_refused(
    *, batch_id: UUID | None, place: int, address: str, amount: int, tx_hash: str, at: datetime
) -> Withdrawal:
    """`Gateway.Refused` is final: the recipient did not take it, and it is credited back.

    Raises as `on_withdrawn`.
    """
    withdrawal = _named(batch_id, place, address, amount, tx_hash)
    if withdrawal.state == State.REFUSED:
        return withdrawal
    _must_be_open(withdrawal)
    reason = (
        f"The wallet {withdrawal.address} does not take plain payments of OPEN. "
        "Withdraw to another wallet."
    )
    _give_back(withdrawal, State.REFUSED, reason, at, tx_hash)
    return withdrawal


@transaction.atomic
def reopen(*, withdrawal_id: UUID, at: datetime) -> Withdrawal | None:
    """The chain took back, past a final block, how this withdrawal had ended.

    Its intent is sent again, so the money is on its way once more: what was paid is so again in the
    contract, what was credited back is taken back or owed. None where it had not ended.
    """
    withdrawal = (
        Withdrawal.objects.select_for_update(of=("self",))
        .select_related("source", "closed_by")
        .filter(pk=withdrawal_id)
        .exclude(state__in=Withdrawal.OPEN)
        .first()
    )
    if withdrawal is None:
        return None
    under_way = Leg(account_for(Account.Kind.WITHDRAWING, withdrawal.user_id), withdrawal.amount)
    legs = (
        [Leg(account_for(Account.Kind.GATEWAY), -withdrawal.amount)]
        if withdrawal.state == State.PAID
        else taken_back(withdrawal.source, withdrawal.amount, beside=[under_way.account])
    )
    entry = post_entry(
        kind=Entry.Kind.UNDONE,
        key=f"reopened:{withdrawal.pk}:{withdrawal.reopened}",
        at=at,
        legs=[under_way, *legs],
        cause=Cause("withdrawal", withdrawal.pk),
    )
    was = withdrawal.state
    withdrawal.state, withdrawal.closed_by, withdrawal.closed_at = State.SUBMITTED, None, None
    withdrawal.tx_hash, withdrawal.failure_reason = "", ""
    withdrawal.reopened += 1
    withdrawal.save(
        update_fields=[
            "state", "closed_by", "closed_at", "tx_hash", "failure_reason", "reopened",
        ]
    )  # fmt: skip
    audit.record(
        actor=None,
        verb="ledger.withdrawal_reopened",
        target=withdrawal,
        at=at,
        data={"was": was, "amount": str(withdrawal.amount), "entry": str(entry.pk)},
    )
    return withdrawal


def reopen_paid(*, batch_id: UUID | None, place: int, at: datetime) -> Withdrawal | None:
    """`reopen` by what an event of the Gateway names."""
    found = Withdrawal.objects.filter(batch_id=batch_id, place=place) if batch_id else None
    withdrawal = found.first() if found is not None else None
    return None if withdrawal is None else reopen(withdrawal_id=withdrawal.pk, at=at)


@transaction.atomic
def return_batch(*, batch_id: UUID, at: datetime) -> int:
    """Credit back all of a batch that can never be mined any more; returns how many."""
    batch = WithdrawalBatch.objects.filter(pk=batch_id).first()
    intent = Intent.objects.filter(pk=batch.intent_id).first() if batch else None
    if intent is None or not _is_lost(intent):
        return 0
    open_ones = Withdrawal.objects.select_for_update(of=("self",)).filter(
        batch_id=batch_id, state__in=Withdrawal.OPEN
    )
    reason = intent.failure_reason or "The chain refused the transaction."
    withdrawals = list(open_ones.order_by("id"))
    for withdrawal in withdrawals:
        _give_back(withdrawal, State.FAILED, reason, at, intent.tx_hash)
    return len(withdrawals)


def _is_lost(intent: Intent) -> bool:
    """Whether nothing of this intent can be mined any more, now or after a reorganisation.

    One that failed within a block is only lost once that block is final: until then the block may
    go, and the same bytes may succeed in another one.
    """
    if intent.state != Intent.State.FAILED:
        return False
    if intent.nonce is None or intent.wallet_id is None:
        # Never signed, or signed for a local chain that is gone.
        return True
    if intent.block_number is None:
        return False
    head = ChainHead.objects.filter(chain_id=intent.chain_id).first()
    return head is not None and intent.block_number <= head.final_number


def _failed_batches() -> list[UUID]:
    """Batches with open withdrawals whose intent has failed."""
    batches = Withdrawal.objects.filter(state__in=[State.BATCHED, State.SUBMITTED])
    failed = Intent.objects.filter(
        kind=Intent.Kind.WITHDRAW,
        state=Intent.State.FAILED,
        cause_id__in=batches.values("batch_id"),
    )
    return [pk for pk in failed.values_list("cause_id", flat=True) if pk is not None]


def _named(
    batch_id: UUID | None, place: int, address: str, amount: int, tx_hash: str
) -> Withdrawal:
    """The withdrawal that an event of the Gateway is about, locked."""
    found = (
        Withdrawal.objects.select_for_update(of=("self",))
        .select_related("user", "source")
        .filter(batch_id=batch_id, place=place)
        .first()
        if batch_id
        else None
    )
    if found is None:
        raise UnknownAccount(f"{tx_hash} paid {open_text(amount)} OPEN that nobody asked for.")
    if (found.address.lower(), found.amount) != (address.lower(), amount):
        raise InvalidEntry(
            f"{tx_hash} paid {amount} wei to {address} for withdrawal {found.pk}, "
            f"which asks for {found.amount} wei to {found.address}."
        )
    return found


def _must_be_open(withdrawal: Withdrawal) -> None:
    if withdrawal.state not in Withdrawal.OPEN:
        raise InvalidEntry(
            f"Withdrawal {withdrawal.pk} is {withdrawal.state}, and the chain says otherwise."
        )


def _give_back(
    withdrawal: Withdrawal, state: Withdrawal.State, reason: str, at: datetime, tx_hash: str
) -> None:
    under_way = account_for(Account.Kind.WITHDRAWING, withdrawal.user_id)
    entry = post_entry(
        kind=Entry.Kind.RETURN,
        key=f"return:{withdrawal.pk}:{withdrawal.reopened}",
        at=at,
        legs=[
            Leg(under_way, -withdrawal.amount),
            *incoming(withdrawal.source, withdrawal.amount, beside=[under_way]),
        ],
        cause=Cause("withdrawal", withdrawal.pk),
    )
    _close(withdrawal, state, entry, reason, at, tx_hash)
    notify(
        user=withdrawal.user,
        kind="ledger.withdrawal_returned",
        url="/wallet/",
        at=at,
        body=reason,
        title=f"{open_text(withdrawal.amount)} OPEN could not be paid and are back with you",
    )


def _close(
    withdrawal: Withdrawal,
    state: Withdrawal.State,
    entry: Entry,
    reason: str,
    at: datetime,
    tx_hash: str,
) -> None:
    withdrawal.state, withdrawal.closed_by, withdrawal.closed_at = state, entry, at
    withdrawal.failure_reason, withdrawal.tx_hash = reason[:2000], tx_hash.lower()
    withdrawal.save(update_fields=["state", "closed_by", "closed_at", "failure_reason", "tx_hash"])
    audit.record(
        actor=None,
        verb=f"ledger.withdrawal_{state.lower()}",
        target=withdrawal,
        at=at,
        data={"amount": str(withdrawal.amount), "entry": str(entry.pk), "tx": tx_hash},
    )
    events.emit(
        "ledger.withdrawal_closed",
        {
            "withdrawal_id": str(withdrawal.pk),
            "user_id": str(withdrawal.user_id),
            "state": str(state),
            "cause_kind": withdrawal.cause_kind,
            "cause_id": str(withdrawal.cause_id) if withdrawal.cause_id else None,
            "amount": str(withdrawal.amount),
        },
        at=at,
    )


def _required(identifier: UUID | None) -> UUID:
    if identifier is None:
        raise InvalidEntry("An intent to pay withdrawals names its batch.")
    return identifier
