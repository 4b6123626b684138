"""What the sender works on, and the store that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ledger.chain.wire import Fees, Receipt

# EIP-7825: no transaction may use more.
GAS_LIMIT = 16_777_216
# The least that is set where the node was asked.
GAS_FLOOR = 30_000


@dataclass(frozen=True)
class Attempt:
    """Signed bytes of an intent. Times in seconds, None before the first time.

    `noop` marks a transfer of nothing to ourselves, which uses the nonce up in the intent's stead.
    """

    tx_hash: str
    raw: bytes
    nonce: int
    fees: Fees
    noop: bool = False
    sent_at: float | None = None
    accepted_at: float | None = None
    times_sent: int = 0


@dataclass(frozen=True)
class Job:
    """An intent as the sender needs it; `attempts` at its nonce in order of signing.

    `outflow` is what leaves our contracts and wallets by it, in wei, which the caps count unless a
    person has `lifted` them for it.
    `waits_for` is the count of mined nonces at which a call that was refused is judged again.
    """

    id: Any
    to: str
    data: bytes
    value: int
    outflow: int = 0
    lifted: bool = False
    gas_limit: int | None = None
    nonce: int | None = None
    waits_for: int | None = None
    attempts: Sequence[Attempt] = field(default_factory=tuple)

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]


@dataclass(frozen=True)
class Order:
    """Bytes to be kept for a job before they are sent."""

    job: Job
    attempt: Attempt
    gas: int


@dataclass(frozen=True)
class Answer:
    """What the node said to bytes that were sent."""

    job: Job
    attempt: Attempt
    accepted: bool
    text: str


@dataclass(frozen=True)
class Mined:
    job: Job
    attempt: Attempt
    receipt: Receipt


@dataclass(frozen=True)
class Outstanding:
    """How many there are, what they may cost at most in wei with gas, their limits of gas and bytes
    together, the lowest of their nonces, and when that one was signed, in seconds."""

    count: int = 0
    committed: int = 0
    gas: int = 0
    size: int = 0
    lowest: int | None = None
    signed_at: float = 0.0


class SenderStore(Protocol):
    """Where intents live. Each method commits before it returns, but inside `writing`."""

    def writing(self) -> AbstractContextManager[object]:
        """One transaction that holds the wallet. Raises where another process writes for it."""

    def halted(self) -> bool:
        """Whether the mirror stands still, so that nothing may be sent; it tells staff itself."""

    def final_block(self) -> int:
        """The number of the last block that no reorganisation takes away."""

    def next_nonce(self) -> int | None: ...

    def new_jobs(self, limit: int, *, mined: int, at_most: int | None) -> Sequence[Job]:
        """Unsigned ones, oldest first, without those that wait for a nonce above `mined` and
        those whose outflow is above `at_most` wei and not lifted."""

    def hold_back(self, cap: int, *, above: int) -> int:
        """Write down that `cap` holds back the unsigned ones with an outflow above `above` wei,
        which are not lifted; returns how many there are."""

    def outflow_since(self, start: float) -> int:
        """What went out since then, without what was lifted, in wei."""

    def outstanding(self, *, nonce: int) -> Outstanding:
        """What is signed from `nonce` on and not known to be mined."""

    def open_jobs(self, limit: int, *, below: int) -> Sequence[Job]:
        """Signed ones with a nonce below `below` that are not known to be mined."""

    def due_jobs(self, limit: int, *, nonce: int, sent_before: float) -> Sequence[Job]:
        """Signed ones from `nonce` on whose last bytes were not sent since `sent_before`."""

    def unused(self, nonces: Sequence[int]) -> Sequence[int]:
        """Those of `nonces` that nothing of ours was ever signed for."""

    def oldest(self) -> tuple[int, float] | None:
        """How many wait to be signed or mined, and since when the oldest does."""

    def record_signed(self, orders: Sequence[Order], next_nonce: int) -> None: ...

    def record_attempts(self, orders: Sequence[Order]) -> None: ...

    def record_void(self, order: Order, reason: str) -> None: ...

    def record_fillers(self, attempts: Sequence[Attempt]) -> Sequence[Job]: ...

    def record_sent(self, answers: Sequence[Answer]) -> None: ...

    def record_mined(self, mined: Sequence[Mined]) -> None: ...

    def record_failed(self, job: Job, reason: str) -> None: ...

    def record_waiting(self, jobs: Sequence[tuple[Job, int]]) -> None:
        """Those that would revert wait until so many nonces are mined."""

    def record_renew(self, job: Job) -> None: ...


@dataclass(frozen=True)
class SenderSettings:
    """Times in seconds, `fee_cap` in wei a unit of gas, caps and funds in wei; None is no cap.

    `in_flight` bounds what is signed and not mined: nodes keep so many of one wallet and no more.
    `in_flight_blocks` bounds the same by gas, in whole blocks: what is signed at the price of now
    is priced out after half a dozen full ones, and blocks stay empty until it has fallen again.
    """

    batch: int = 100
    resend_after: float = 5.0
    bump_after: float = 30.0
    fill_after: float = 60.0
    stuck_after: float = 600.0
    fee_cap: int = 500 * 10**9
    transaction_cap: int | None = None
    day_cap: int | None = None
    low_funds: int = 0
    in_flight: int = 1000
    in_flight_blocks: int = 5
    follow: int = 500

    @property
    def largest(self) -> int | None:
        """The largest outflow that one intent may ever have."""
        caps = [cap for cap in (self.transaction_cap, self.day_cap) if cap is not None]
        return min(caps, default=None)
