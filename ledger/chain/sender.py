"""Carries intents out: sign once, keep the bytes, send those bytes until they are mined.

The order is what makes it safe against a crash at any line: the nonce, the signed bytes and the
attempt are stored in one transaction before anything is sent, so whatever was sent is known, and
what is sent twice is the same transaction. A replacement keeps the nonce, so of all attempts of an
intent at most one is ever mined.

The store is handed in; one sender per wallet is the caller's promise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ledger.chain.artifacts import explain_revert
from ledger.chain.client import ChainClient, Fees, Receipt, RpcError, UnreachableError
from ledger.chain.signers import Signed, Signer

logger = logging.getLogger(__name__)

# A node takes a replacement only for at least a tenth more; an eighth is what everybody asks for.
BUMP_NUMERATOR, BUMP_DENOMINATOR = 1125, 1000
GAS_MARGIN_PERCENT = 25
GAS_FLOOR = 30_000
# EIP-7825: no transaction may use more.
GAS_LIMIT = 16_777_216

ALREADY_KNOWN = ("already known", "already imported", "known transaction", "alreadyknown")
NONCE_TOO_LOW = ("nonce too low", "nonce is too low", "invalid nonce", "oldnonce")
UNDERPRICED = ("underpriced", "max fee per gas less than block base fee", "fee too low")
NO_FUNDS = ("insufficient funds",)


@dataclass(frozen=True)
class Attempt:
    """Signed bytes of an intent. `sent_at` is in seconds, None before the first time."""

    tx_hash: str
    raw: bytes
    nonce: int
    fees: Fees
    sent_at: float | None = None


@dataclass(frozen=True)
class Job:
    """An intent as the sender needs it; `attempts` in order of signing."""

    id: Any
    to: str
    data: bytes
    value: int
    gas_limit: int | None = None
    nonce: int | None = None
    attempts: Sequence[Attempt] = field(default_factory=tuple)


class SenderStore(Protocol):
    """Where intents live. Each method commits before it returns, but inside `atomic`."""

    def atomic(self) -> AbstractContextManager[object]: ...

    def next_nonce(self) -> int | None: ...

    def set_next_nonce(self, nonce: int) -> None: ...

    def new_jobs(self, limit: int) -> Sequence[Job]: ...

    def open_jobs(self, limit: int) -> Sequence[Job]: ...

    def record_attempt(self, job: Job, attempt: Attempt, gas_limit: int) -> None: ...

    def record_sent(self, job: Job, attempt: Attempt, *, accepted: bool, answer: str) -> None: ...

    def record_mined(self, job: Job, receipt: Receipt) -> None: ...

    def record_failed(self, job: Job, reason: str) -> None: ...

    def record_renew(self, job: Job) -> None: ...

    def alarm(self, problem: str) -> None: ...


@dataclass(frozen=True)
class SenderSettings:
    """`resend_after` and `bump_after` in seconds, `fee_cap` in wei a unit of gas."""

    batch: int = 100
    resend_after: float = 5.0
    bump_after: float = 30.0
    fee_cap: int = 500 * 10**9


@dataclass
class Sender:
    """One wallet's writer on one chain."""

    client: ChainClient
    signer: Signer
    store: SenderStore
    chain_id: int
    settings: SenderSettings
    clock: Callable[[], float]

    def step(self) -> int:
        """Follow what is open, then sign and send what is new; returns how many intents moved.

        Raises UnreachableError: nothing is lost, the next step takes it up.
        """
        if self.client.chain_id() != self.chain_id:
            self.store.alarm(f"The node is on another chain than {self.chain_id}; nothing is sent.")
            return 0
        moved = sum(self._follow(job) for job in self.store.open_jobs(self.settings.batch))
        return moved + self._send_new()

    # ------------------------------------------------------------------ new intents

    def _send_new(self) -> int:
        fresh = self.store.new_jobs(self.settings.batch)
        if not fresh:
            return 0
        open_count = len(self.store.open_jobs(1))
        fees = self._capped(self.client.fees())
        self._agree_on_nonce(nothing_open=open_count == 0)
        signed: list[tuple[Job, Attempt]] = []
        for job in fresh:
            gas = self._gas(job, alone=open_count == 0 and not signed)
            if gas is None:
                continue
            signed.append((job, self._sign_new(job, gas, fees)))
        for job, attempt in signed:
            self._send(job, attempt)
        return len(signed)

    def _gas(self, job: Job, *, alone: bool) -> int | None:
        """What the call may use; None where it would revert now."""
        if job.gas_limit is not None:
            return job.gas_limit
        try:
            estimate = self.client.estimate_gas(
                job.to, job.data, sender=self.signer.address, value=job.value
            )
        except RpcError as error:
            if any(word in error.message.lower() for word in NO_FUNDS):
                self.store.alarm(f"{self.signer.address} has too little OPEN: {error.message}")
            elif alone:
                # Nothing is on its way that could still make it true.
                reason = explain_revert(error.data) if error.data else error.message
                self.store.record_failed(job, f"The contract refuses it: {reason}")
            return None
        return min(GAS_LIMIT, max(GAS_FLOOR, estimate * (100 + GAS_MARGIN_PERCENT) // 100))

    def _sign_new(self, job: Job, gas: int, fees: Fees) -> Attempt:
        with self.store.atomic():
            nonce = self.store.next_nonce()
            if nonce is None:
                nonce = self.client.nonce(self.signer.address, "pending")
            attempt = self._sign(job, nonce, gas, fees)
            self.store.record_attempt(job, attempt, gas)
            self.store.set_next_nonce(nonce + 1)
        return attempt

    def _agree_on_nonce(self, *, nothing_open: bool) -> None:
        """With nothing on its way the node knows best: others may have used the wallet."""
        ours = self.store.next_nonce()
        if ours is not None and not nothing_open:
            return
        theirs = self.client.nonce(self.signer.address, "pending")
        if ours is None or theirs > ours:
            self.store.set_next_nonce(theirs)

    def _sign(self, job: Job, nonce: int, gas: int, fees: Fees) -> Attempt:
        signed: Signed = self.signer.sign(
            {
                "type": 2,
                "chainId": self.chain_id,
                "nonce": nonce,
                "to": job.to,
                "data": "0x" + job.data.hex(),
                "value": job.value,
                "gas": gas,
                "maxFeePerGas": fees.maximum,
                "maxPriorityFeePerGas": fees.priority,
            }
        )
        return Attempt(signed.hash, signed.raw, nonce, fees)

    # ------------------------------------------------------------------ what is on its way

    def _follow(self, job: Job) -> int:
        receipt = self._receipt(job)
        if receipt is not None:
            self.store.record_mined(job, receipt)
            return 1
        last = job.attempts[-1]
        waited = None if last.sent_at is None else self.clock() - last.sent_at
        if waited is None:
            self._send(job, last)
        elif waited >= self.settings.bump_after:
            self._bump(job, last)
        elif waited >= self.settings.resend_after and not self.client.knows_transaction(
            last.tx_hash
        ):
            self._send(job, last)
        return 0

    def _receipt(self, job: Job) -> Receipt | None:
        for attempt in reversed(job.attempts):
            receipt = self.client.receipt(attempt.tx_hash)
            if receipt is not None:
                return receipt
        return None

    def _send(self, job: Job, attempt: Attempt) -> None:
        try:
            self.client.send_raw(attempt.raw)
        except RpcError as error:
            self._refused(job, attempt, error)
            return
        except UnreachableError as error:
            # It may have arrived all the same; the same bytes go out again.
            self.store.record_sent(job, attempt, accepted=False, answer=str(error))
            raise
        self.store.record_sent(job, attempt, accepted=True, answer="")

    def _refused(self, job: Job, attempt: Attempt, error: RpcError) -> None:
        said = error.message.lower()
        if any(word in said for word in ALREADY_KNOWN):
            self.store.record_sent(job, attempt, accepted=True, answer=error.message)
            return
        self.store.record_sent(job, attempt, accepted=False, answer=error.message)
        if any(word in said for word in NONCE_TOO_LOW):
            self._nonce_is_used(job, attempt)
        elif any(word in said for word in UNDERPRICED):
            self._bump(job, attempt)
        elif any(word in said for word in NO_FUNDS):
            self.store.alarm(f"{self.signer.address} has too little OPEN: {error.message}")
        else:
            logger.warning("intent %s: %s", job.id, error)

    def _nonce_is_used(self, job: Job, attempt: Attempt) -> None:
        """Ours or another's? Only where none of our own attempts used it is a new one signed."""
        attempts = (*job.attempts, attempt)
        for own in attempts:
            receipt = self.client.receipt(own.tx_hash)
            if receipt is not None:
                self.store.record_mined(job, receipt)
                return
        if any(self.client.knows_transaction(own.tx_hash) for own in attempts):
            return
        if self.client.nonce(self.signer.address) > attempt.nonce:
            logger.warning("intent %s: nonce %s was used by another", job.id, attempt.nonce)
            self.store.record_renew(job)

    def _bump(self, job: Job, last: Attempt) -> None:
        """Replace it at the same nonce by one that pays at least an eighth more."""
        market = self.client.fees()
        raised = Fees(
            maximum=max(market.maximum, _eighth_more(last.fees.maximum)),
            priority=max(market.priority, _eighth_more(last.fees.priority)),
        )
        if raised.maximum > self.settings.fee_cap:
            self.store.alarm(f"Gas costs more than {self.settings.fee_cap} wei; waiting.")
            self._send_same(job, last)
            return
        gas = job.gas_limit or GAS_LIMIT
        with self.store.atomic():
            attempt = self._sign(job, last.nonce, gas, raised)
            self.store.record_attempt(job, attempt, gas)
        self._send_same(job, attempt)

    def _send_same(self, job: Job, attempt: Attempt) -> None:
        try:
            self.client.send_raw(attempt.raw)
        except RpcError as error:
            known = any(word in error.message.lower() for word in ALREADY_KNOWN)
            self.store.record_sent(job, attempt, accepted=known, answer=error.message)
            return
        self.store.record_sent(job, attempt, accepted=True, answer="")

    def _capped(self, fees: Fees) -> Fees:
        cap = self.settings.fee_cap
        return Fees(min(fees.maximum, cap), min(fees.priority, cap))


def _eighth_more(wei: int) -> int:
    return -(-wei * BUMP_NUMERATOR // BUMP_DENOMINATOR) + 1
