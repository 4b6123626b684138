"""Carries intents out: sign once, keep the bytes, send those bytes until they are mined.

The order is what makes it safe against a crash at any line: the nonce, the signed bytes and the
attempt are stored in one transaction before anything is sent, so whatever was sent is known, and
what is sent twice is the same transaction. A replacement keeps the nonce, so of all attempts of an
intent at most one is ever mined. A nonce is given up for another only where the transaction that
used it was seen, is not ours and is final: what a node does not show proves nothing.

The store is handed in; one sender per wallet is the caller's promise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ledger.chain.answers import Verdict, judge
from ledger.chain.artifacts import explain_revert
from ledger.chain.choosing import affordable, capped, raised, room_for, within_caps, within_gas
from ledger.chain.client import ChainClient, ChainError, RpcError, UnreachableError
from ledger.chain.jobs import (
    GAS_FLOOR,
    GAS_LIMIT,
    Answer,
    Attempt,
    Job,
    Mined,
    Order,
    Outstanding,
    SenderSettings,
    SenderStore,
)
from ledger.chain.signers import Signer
from ledger.chain.surcharges import surcharge
from ledger.chain.wire import Fees, WalletView

__all__ = ["Sender", "SenderSettings"]

logger = logging.getLogger(__name__)

GAS_MARGIN_PERCENT = 25
NOOP_GAS = 21_000
# A refusal for good must be heard so often before the nonce is used up by nothing.
REFUSALS = 3
# Looking up who used a nonce takes dozens of calls.
LOOKED_UP = 3
FILLED_AT_ONCE = 100

Pairs = Sequence[tuple[Job, Attempt]]
Ready = Sequence[tuple[Job, int]]


@dataclass
class Sender:
    """One wallet's writer on one chain. `alarms` are what the last step found wrong, by kind."""

    client: ChainClient
    signer: Signer
    store: SenderStore
    chain_id: int
    settings: SenderSettings
    clock: Callable[[], float]
    alarms: dict[str, str] = field(default_factory=dict)

    def step(self) -> int:
        """Follow what is open, then sign and send what is new; returns how many intents moved.

        Raises UnreachableError, SigningError: nothing is lost, the next step takes it up.
        """
        self.alarms = {}
        view = self.client.look(self.signer.address)
        if view.chain_id != self.chain_id:
            self.alarms["chain"] = (
                f"The node is on chain {view.chain_id} and not on {self.chain_id}; nothing is sent."
            )
            return 0
        if self.store.halted():
            return 0
        if view.balance < self.settings.low_funds:
            self._too_little(view.balance)
        moved = self._follow(view)
        self._send_due(view)
        self._fill_gaps(view)
        return moved + self._send_new(view)

    def watch(self) -> None:
        """Look for what has waited too long; needs no node."""
        waiting = self.store.oldest()
        if waiting is None:
            return
        count, since = waiting
        waited = self.clock() - since
        if waited >= self.settings.stuck_after:
            self.alarms["stuck"] = (
                f"{count} intents wait to be mined, the oldest for {waited / 60:.0f} minutes."
            )

    # ------------------------------------------------------------------ new intents

    def _send_new(self, view: WalletView) -> int:
        out = self.store.outstanding(nonce=view.nonce)
        room, gas_room = room_for(self.settings, out, view.gas_limit)
        # One is looked at in any case, or alarms would end and begin again with the room.
        jobs, alarms = within_caps(
            self.store, self.settings, mined=view.nonce, limit=max(1, room), now=self.clock()
        )
        self.alarms |= alarms
        if not jobs:
            return 0
        if view.base_fee > self.settings.fee_cap:
            self._too_expensive(view.base_fee)
            return 0
        if room <= 0:
            return 0
        fees = capped(view.fees, self.settings.fee_cap)
        ready, refused = self._with_gas(jobs)
        jobs, ready = within_gas(jobs, ready, gas_room)
        if ready:
            ready, short = self._affordable(ready, fees, view.balance, out)
            if short:
                self._too_little(view.balance)
        self._would_revert(jobs, refused, ready, view)
        if not ready:
            return 0
        orders = self._sign_new(ready, fees, view)
        self._send([(order.job, order.attempt) for order in orders], view)
        return len(orders)

    def _affordable(
        self, ready: Ready, fees: Fees, balance: int, out: Outstanding
    ) -> tuple[Ready, bool]:
        on_top = surcharge(self.client)
        owed = out.committed + on_top.of(count=out.count, size=out.size, gas=out.gas)
        return affordable(ready, fees, balance - owed, on_top)

    def _with_gas(self, jobs: Sequence[Job]) -> tuple[Ready, dict[int, RpcError]]:
        """Each job and the gas it may use; by their places, those that would revert now."""
        asked = [job for job in jobs if job.gas_limit is None]
        calls = [(job.to, job.data, job.value) for job in asked]
        estimates = self.client.estimates(calls, sender=self.signer.address) if calls else []
        by_id = {job.id: gas for job, gas in zip(asked, estimates, strict=True)}
        ready: list[tuple[Job, int]] = []
        refused: dict[int, RpcError] = {}
        for place, job in enumerate(jobs):
            gas = by_id.get(job.id, job.gas_limit or GAS_LIMIT)
            if isinstance(gas, RpcError):
                refused[place] = gas
            elif job.gas_limit is not None:
                ready.append((job, gas))
            else:
                margin = gas * (100 + GAS_MARGIN_PERCENT) // 100
                ready.append((job, min(GAS_LIMIT, max(GAS_FLOOR, margin))))
        return ready, refused

    def _would_revert(
        self, jobs: Sequence[Job], refused: dict[int, RpcError], ready: Ready, view: WalletView
    ) -> None:
        """A call that reverts fails once nothing ahead of it could still make it true."""
        signed = self.store.next_nonce() or 0
        going = {job.id for job, _ in ready}
        waiting: list[tuple[Job, int]] = []
        for place, error in refused.items():
            if place >= len(jobs):
                continue
            job = jobs[place]
            ahead = signed + sum(one.id in going for one in jobs[:place])
            if judge(error) is Verdict.NO_FUNDS:
                self._too_little(view.balance)
            elif view.nonce >= (ahead if job.waits_for is None else job.waits_for):
                reason = explain_revert(error.data) if error.data else error.message
                self.store.record_failed(job, f"The contract refuses it: {reason}")
            elif job.waits_for is None:
                waiting.append((job, ahead))
        if waiting:
            self.store.record_waiting(waiting)

    def _sign_new(self, ready: Ready, fees: Fees, view: WalletView) -> Sequence[Order]:
        with self.store.writing():
            # Where others use the wallet too, the node knows of more than we do.
            first = max(self.store.next_nonce() or 0, view.pending)
            orders = [
                Order(replace(job, gas_limit=gas), self._sign(job, first + place, gas, fees), gas)
                for place, (job, gas) in enumerate(ready)
            ]
            self.store.record_signed(orders, first + len(orders))
        return orders

    def _sign(self, job: Job, nonce: int, gas: int, fees: Fees) -> Attempt:
        return self._signed(nonce, fees, to=job.to, data=job.data, value=job.value, gas=gas)

    def _sign_noop(self, nonce: int, fees: Fees) -> Attempt:
        nothing = self._signed(nonce, fees, to=self.signer.address, data=b"", value=0, gas=NOOP_GAS)
        return replace(nothing, noop=True)

    def _signed(
        self, nonce: int, fees: Fees, *, to: str, data: bytes, value: int, gas: int
    ) -> Attempt:
        signed = self.signer.sign(
            {
                "type": 2,
                "chainId": self.chain_id,
                "nonce": nonce,
                "to": to,
                "data": data,
                "value": value,
                "gas": gas,
                "maxFeePerGas": fees.maximum,
                "maxPriorityFeePerGas": fees.priority,
            }
        )
        return Attempt(signed.hash, signed.raw, nonce, fees)

    # ------------------------------------------------------------------ what is on its way

    def _follow(self, view: WalletView) -> int:
        """Find the receipts of those whose nonce is used: no others can be mined."""
        jobs = self.store.open_jobs(self.settings.follow, below=view.nonce)
        if not jobs:
            return 0
        hashes = [attempt.tx_hash for job in jobs for attempt in job.attempts]
        receipts = self.client.receipts(hashes, logs=False)
        mined = [
            Mined(job, attempt, receipts[attempt.tx_hash])
            for job in jobs
            for attempt in job.attempts
            if attempt.tx_hash in receipts
        ]
        self.store.record_mined(mined)
        found = {item.job.id for item in mined}
        lost = [job for job in jobs if job.id not in found]
        moved = sum(self._who_used_the_nonce(job) for job in lost[:LOOKED_UP])
        return len(found) + moved

    def _who_used_the_nonce(self, job: Job) -> int:
        """Another's transaction must be seen, and be final, before the intent gets a new nonce."""
        used = self.client.transaction_with_nonce(self.signer.address, job.last.nonce)
        ours = {attempt.tx_hash for attempt in job.attempts}
        if used is None or used[0] in ours or used[1] > self.store.final_block():
            return 0
        logger.warning("intent %s: nonce %s was used by %s", job.id, job.last.nonce, used[0])
        self.store.record_renew(job)
        return 1

    def _send_due(self, view: WalletView) -> None:
        """Send again what the node may have lost, with more for gas where it waits for that."""
        now = self.clock()
        jobs = self.store.due_jobs(
            self.settings.batch, nonce=view.nonce, sent_before=now - self.settings.resend_after
        )
        cheap: list[Job] = []
        same: list[tuple[Job, Attempt]] = []
        for job in jobs:
            if self._waits_for_more(job, view, now):
                cheap.append(job)
            else:
                same.append((job, job.last))
        if same:
            self._send(same, view)
        if cheap:
            self._bump(cheap, view)

    def _waits_for_more(self, job: Job, view: WalletView, now: float) -> bool:
        last = job.last
        if last.accepted_at is None or now - last.accepted_at < self.settings.bump_after:
            return False
        priced_out = last.fees.maximum < view.base_fee + last.fees.priority
        return priced_out or last.nonce == view.nonce

    def _send(self, pairs: Pairs, view: WalletView, *, bumping: bool = True) -> None:
        """Hand the bytes over and act on the answers. Raises UnreachableError after the last."""
        problems = self.client.send_raws([(one.tx_hash, one.raw) for _, one in pairs])
        verdicts = [judge(problem) for problem in problems]
        self.store.record_sent(
            [
                Answer(job, attempt, verdict is Verdict.TAKEN, str(problem or ""))
                for (job, attempt), verdict, problem in zip(pairs, verdicts, problems, strict=True)
            ]
        )
        cheap: list[Job] = []
        for (job, attempt), verdict, problem in zip(pairs, verdicts, problems, strict=True):
            if verdict is Verdict.CHEAP:
                cheap.append(_with(job, attempt))
            elif verdict is Verdict.NO_FUNDS:
                self._too_little(view.balance)
            elif verdict is Verdict.NEVER:
                self._never(_with(job, attempt), str(problem), view)
            elif verdict is Verdict.REFUSED:
                self.alarms["refused"] = f"The node does not take nonce {attempt.nonce}: {problem}"
        if cheap and bumping:
            self._bump(cheap, view)
        _raise_the_unreachable(problems)

    def _never(self, job: Job, reason: str, view: WalletView) -> None:
        """Bytes that no node will take: a transfer of nothing frees the nonces behind them."""
        last = job.last
        if last.noop or last.times_sent + 1 < REFUSALS:
            self.alarms["refused"] = f"The node does not take nonce {last.nonce}: {reason}"
            return
        cap = self.settings.fee_cap
        fees = raised(last.fees, view.fees, cap) or capped(view.fees, cap)
        with self.store.writing():
            order = Order(job, self._sign_noop(last.nonce, fees), NOOP_GAS)
            self.store.record_void(order, f"The node refuses it for good: {reason}")
        self._send([(job, order.attempt)], view, bumping=False)

    def _bump(self, jobs: Sequence[Job], view: WalletView) -> None:
        """Replace each at its nonce by one that pays at least an eighth more."""
        orders: list[Order] = []
        same: list[tuple[Job, Attempt]] = []
        with self.store.writing():
            for job in jobs:
                fees = raised(job.last.fees, view.fees, self.settings.fee_cap)
                if fees is None:
                    same.append((job, job.last))
                    continue
                gas = NOOP_GAS if job.last.noop else job.gas_limit or GAS_LIMIT
                attempt = (
                    self._sign_noop(job.last.nonce, fees)
                    if job.last.noop
                    else self._sign(job, job.last.nonce, gas, fees)
                )
                orders.append(Order(job, attempt, gas))
            self.store.record_attempts(orders)
        if same:
            self._too_expensive(view.base_fee)
        again = [(order.job, order.attempt) for order in orders] + same
        self._send(sorted(again, key=lambda pair: pair[1].nonce), view, bumping=False)

    def _fill_gaps(self, view: WalletView) -> None:
        """Use up nonces that were left out, which hold up everything behind them for ever.

        It takes a node that told of transactions which then vanished; nothing of ours is there.
        """
        out = self.store.outstanding(nonce=view.nonce)
        if out.lowest is None or out.lowest <= view.pending:
            return
        if self.clock() - out.signed_at < self.settings.fill_after:
            return
        last = min(out.lowest, view.pending + FILLED_AT_ONCE)
        missing = self.store.unused(range(view.pending, last))
        if not missing or view.base_fee > self.settings.fee_cap:
            return
        fees = capped(view.fees, self.settings.fee_cap)
        with self.store.writing():
            attempts = [self._sign_noop(nonce, fees) for nonce in missing]
            jobs = self.store.record_fillers(attempts)
        self._send(list(zip(jobs, attempts, strict=True)), view, bumping=False)

    # ------------------------------------------------------------------ prices and alarms

    def _too_little(self, balance: int) -> None:
        self.alarms["funds"] = (
            f"{self.signer.address} holds only {balance} wei on chain {self.chain_id}: send OPEN "
            "there. What it cannot pay for waits."
        )

    def _too_expensive(self, base_fee: int) -> None:
        self.alarms["fees"] = (
            f"Gas costs {base_fee} wei a unit and our cap is {self.settings.fee_cap}; waiting "
            "until it is cheaper, or CHAIN_FEE_CAP_WEI is raised."
        )


def _with(job: Job, attempt: Attempt) -> Job:
    """The job with bytes that were signed since it was read."""
    known = [one.tx_hash for one in job.attempts]
    return job if attempt.tx_hash in known else replace(job, attempts=[*job.attempts, attempt])


def _raise_the_unreachable(problems: Sequence[ChainError | None]) -> None:
    for problem in problems:
        if isinstance(problem, UnreachableError):
            raise problem
