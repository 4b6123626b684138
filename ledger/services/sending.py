"""The sender's rows, and following what is mined until it is final. For the worker alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from ledger.chain.artifacts import explain_revert
from ledger.chain.client import ChainClient, Fees, Receipt, RpcError
from ledger.chain.sender import Attempt, Job, Sender, SenderSettings
from ledger.chain.signers import Signer
from ledger.models.chain import ChainHead, ChainWallet, Intent, IntentAttempt
from ledger.services.chain import announce
from ledger.services.halting import is_halted

logger = logging.getLogger(__name__)
State = Intent.State
LEASE = timedelta(seconds=30)
# The local chain mines each second; elsewhere a block takes longer and a bump costs real money.
LOCAL_SETTINGS = SenderSettings(resend_after=3.0, bump_after=15.0)


class LeaseLostError(RuntimeError):
    """Another process writes for this wallet now; nothing was signed."""


def send_step(
    *, client: ChainClient, signer: Signer, chain_id: int, settings: SenderSettings
) -> int:
    """One step of the wallet's sender; 0 where another process holds the wallet, or all is halted.

    Raises UnreachableError, LeaseLostError: the next step takes it up.
    """
    if is_halted(chain_id):
        return 0
    wallet = _wallet(chain_id, signer.address)
    token = str(uuid4())
    if not _lease(wallet.pk, token):
        return 0
    try:
        store = IntentStore(wallet.pk, token, chain_id)
        sender = Sender(client, signer, store, chain_id, settings, lambda: _now().timestamp())
        moved = sender.step()
        moved += _confirm(client, wallet.pk, signer.address)
        if moved:
            _keep_balance(client, wallet)
        return moved
    finally:
        ChainWallet.objects.filter(pk=wallet.pk, lease_owner=token).update(
            lease_owner="", lease_expires_at=None
        )


class IntentStore:
    """`ledger.chain.sender.SenderStore` on the tables of one wallet, under its lease."""

    def __init__(self, wallet_id: UUID, token: str, chain_id: int) -> None:
        self.wallet_id = wallet_id
        self.token = token
        self.chain_id = chain_id

    def atomic(self) -> AbstractContextManager[object]:
        return transaction.atomic()

    def next_nonce(self) -> int | None:
        return self._wallet_row().next_nonce

    def set_next_nonce(self, nonce: int) -> None:
        with transaction.atomic():
            self._locked_wallet()
            ChainWallet.objects.filter(pk=self.wallet_id).update(next_nonce=nonce)

    def new_jobs(self, limit: int) -> Sequence[Job]:
        rows = Intent.objects.filter(state=State.NEW, chain_id=self.chain_id)
        return [_job(row) for row in rows.order_by("id")[:limit]]

    def open_jobs(self, limit: int) -> Sequence[Job]:
        rows = Intent.objects.filter(wallet=self.wallet_id, state__in=Intent.IN_FLIGHT)
        return [_job(row) for row in rows.order_by("nonce").prefetch_related("tries")[:limit]]

    def record_attempt(self, job: Job, attempt: Attempt, gas_limit: int) -> None:
        with transaction.atomic():
            self._locked_wallet()
            intent = Intent.objects.select_for_update(of=("self",)).get(pk=job.id)
            first = intent.state == State.NEW
            intent.state, intent.wallet_id = State.SIGNED, self.wallet_id
            intent.nonce, intent.tx_hash = attempt.nonce, attempt.tx_hash
            intent.gas_limit, intent.signed_at = gas_limit, _now()
            intent.save(
                update_fields=["state", "wallet", "nonce", "tx_hash", "gas_limit", "signed_at"]
            )
            IntentAttempt.objects.create(
                intent=intent,
                nonce=attempt.nonce,
                tx_hash=attempt.tx_hash,
                raw=attempt.raw,
                maximum_fee=attempt.fees.maximum,
                priority_fee=attempt.fees.priority,
            )
            if first:
                announce(intent, at=_now())

    def record_sent(self, job: Job, attempt: Attempt, *, accepted: bool, answer: str) -> None:
        with transaction.atomic():
            IntentAttempt.objects.filter(tx_hash=attempt.tx_hash).update(
                sent_at=_now(), times_sent=F("times_sent") + 1, answer=answer[:2000]
            )
            intent = Intent.objects.select_for_update(of=("self",)).get(pk=job.id)
            if accepted and intent.state == State.SIGNED:
                intent.state = State.SEEN
                intent.save(update_fields=["state"])
                announce(intent, at=_now())

    def record_mined(self, job: Job, receipt: Receipt) -> None:
        with transaction.atomic():
            intent = Intent.objects.select_for_update(of=("self",)).get(pk=job.id)
            if intent.state not in Intent.IN_FLIGHT:
                return
            intent.state, intent.tx_hash = State.MINED, receipt.tx_hash
            intent.block_number, intent.block_hash = receipt.block_number, receipt.block_hash
            intent.succeeded, intent.gas_used = receipt.succeeded, receipt.gas_used
            intent.fee, intent.mined_at = receipt.fee, _now()
            intent.save(
                update_fields=[
                    "state", "tx_hash", "block_number", "block_hash", "succeeded", "gas_used",
                    "fee", "mined_at",
                ]
            )  # fmt: skip
            announce(intent, at=_now())

    def record_failed(self, job: Job, reason: str) -> None:
        with transaction.atomic():
            intent = Intent.objects.select_for_update(of=("self",)).get(pk=job.id)
            if intent.state == State.NEW:
                _settle(intent, State.FAILED, reason)

    def record_renew(self, job: Job) -> None:
        """Its nonce went to another transaction, so none of its attempts can ever be mined."""
        Intent.objects.filter(pk=job.id, state__in=Intent.IN_FLIGHT).update(
            state=State.NEW, nonce=None, tx_hash=""
        )

    def alarm(self, problem: str) -> None:
        logger.error("%s", problem)
        ChainWallet.objects.filter(pk=self.wallet_id).update(problem=problem, checked_at=_now())

    def _wallet_row(self) -> ChainWallet:
        return ChainWallet.objects.get(pk=self.wallet_id)

    def _locked_wallet(self) -> ChainWallet:
        wallet = ChainWallet.objects.select_for_update().get(pk=self.wallet_id)
        if wallet.lease_owner != self.token:
            raise LeaseLostError(f"Another process writes for {wallet.address} now.")
        return wallet


def _confirm(client: ChainClient, wallet_id: UUID, address: str) -> int:
    """Move mined intents on to SAFE and FINAL, or back to SIGNED where their block is gone."""
    head = ChainHead.objects.filter(
        chain_id__in=ChainWallet.objects.filter(pk=wallet_id).values("chain_id")
    ).first()
    if head is None:
        return 0
    waiting = Intent.objects.filter(wallet=wallet_id).filter(
        Q(state=State.MINED, block_number__lte=head.safe_number)
        | Q(state=State.SAFE, block_number__lte=head.final_number)
    )
    return sum(_confirm_one(client, intent.pk, address, head) for intent in waiting[:200])


def _confirm_one(client: ChainClient, intent_id: UUID, address: str, head: ChainHead) -> int:
    intent = Intent.objects.get(pk=intent_id)
    receipt = client.receipt(intent.tx_hash)
    stands = receipt is not None and receipt.block_hash == intent.block_hash
    reason = ""
    if stands and not intent.succeeded:
        reason = f"The contract refused it: {_why(client, intent, address)}"
    with transaction.atomic():
        intent = Intent.objects.select_for_update(of=("self",)).get(pk=intent_id)
        if intent.state not in (State.MINED, State.SAFE):
            return 0
        if not stands:
            take_back(intent)
        elif reason:
            _settle(intent, State.FAILED, reason)
        elif (intent.block_number or 0) <= head.final_number:
            _settle(intent, State.FINAL, "")
        else:
            intent.state = State.SAFE
            intent.save(update_fields=["state"])
            announce(intent, at=_now())
    return 1


def take_back(intent: Intent) -> None:
    """Its block is gone: the same bytes are sent again. Call it in a transaction."""
    intent.state, intent.succeeded = State.SIGNED, None
    intent.block_number, intent.block_hash = None, ""
    intent.gas_used, intent.fee, intent.mined_at, intent.settled_at = None, 0, None, None
    intent.save(
        update_fields=[
            "state", "succeeded", "block_number", "block_hash", "gas_used", "fee", "mined_at",
            "settled_at",
        ]
    )  # fmt: skip
    intent.tries.update(sent_at=None)
    announce(intent, at=_now())


def _settle(intent: Intent, state: Intent.State, reason: str) -> None:
    intent.state, intent.failure_reason, intent.settled_at = state, reason[:2000], _now()
    intent.save(update_fields=["state", "failure_reason", "settled_at"])
    announce(intent, at=_now())


def _why(client: ChainClient, intent: Intent, address: str) -> str:
    """What the contract says when asked once more; the state may have changed since."""
    try:
        client.call(intent.to, bytes(intent.data), sender=address, value=intent.value)
    except RpcError as error:
        return explain_revert(error.data) if error.data else error.message
    return "it reverted in its block, and would not now"


def _job(row: Intent) -> Job:
    tries = row.tries.all() if row.state != State.NEW else ()
    return Job(
        id=row.pk,
        to=row.to,
        data=bytes(row.data),
        value=row.value,
        gas_limit=row.gas_limit,
        nonce=row.nonce,
        attempts=[_attempt(item) for item in tries],
    )


def _attempt(row: IntentAttempt) -> Attempt:
    return Attempt(
        tx_hash=row.tx_hash,
        raw=bytes(row.raw),
        nonce=row.nonce,
        fees=Fees(maximum=row.maximum_fee, priority=row.priority_fee),
        sent_at=row.sent_at.timestamp() if row.sent_at else None,
    )


def _wallet(chain_id: int, address: str) -> ChainWallet:
    wallet, _ = ChainWallet.objects.get_or_create(chain_id=chain_id, address=address)
    return wallet


def _lease(wallet_id: UUID, token: str) -> bool:
    free = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lt=_now())
    rows: Any = ChainWallet.objects.filter(free, pk=wallet_id)
    return bool(rows.update(lease_owner=token, lease_expires_at=_now() + LEASE, problem=""))


def _keep_balance(client: ChainClient, wallet: ChainWallet) -> None:
    balance = client.balance(wallet.address)
    ChainWallet.objects.filter(pk=wallet.pk).update(balance=balance, checked_at=_now())


def _now() -> datetime:
    return timezone.now()
