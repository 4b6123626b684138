"""The sender's rows: `ledger.chain.jobs.SenderStore` on the tables of one wallet, set by set.

Every write holds the wallet's row and looks whether the lease is still ours; rows of intents are
locked in the order of their ids. A batch costs the same few statements as a single intent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Min, Q, QuerySet, Sum

from ledger.chain.jobs import Answer, Attempt, Job, Mined, Order, Outstanding
from ledger.chain.wire import Fees
from ledger.models.chain import ChainHead, ChainWallet, Intent, IntentAttempt
from ledger.services.chain import announce
from ledger.updating import write

State = Intent.State
MINED_FIELDS = (
    "state", "tx_hash", "block_number", "block_hash", "succeeded", "gas_used", "fee", "mined_at",
    "failure_reason",
)  # fmt: skip


class LeaseLostError(RuntimeError):
    """Another process writes for this wallet now; nothing was signed."""


class IntentStore:
    """One wallet, under the lease that `token` took. `now` gives the time in UTC."""

    def __init__(
        self, wallet_id: UUID, token: str, chain_id: int, now: Callable[[], datetime]
    ) -> None:
        self.wallet_id = wallet_id
        self.token = token
        self.chain_id = chain_id
        self.now = now

    # ------------------------------------------------------------------ reading

    @contextmanager
    def writing(self) -> Iterator[None]:
        with transaction.atomic():
            self._locked_wallet()
            yield

    def halted(self) -> bool:
        head = ChainHead.objects.filter(chain_id=self.chain_id).first()
        return head is not None and (head.halted_at is not None or head.problem != "")

    def final_block(self) -> int:
        head = ChainHead.objects.filter(chain_id=self.chain_id).first()
        return -1 if head is None else head.final_number

    def next_nonce(self) -> int | None:
        return ChainWallet.objects.get(pk=self.wallet_id).next_nonce

    def new_jobs(self, limit: int, *, mined: int, at_most: int | None) -> Sequence[Job]:
        rows = self._new().filter(Q(waits_for__isnull=True) | Q(waits_for__lte=mined))
        if at_most is not None:
            rows = rows.filter(Q(outflow__lte=at_most) | Q(cap_lifted_at__isnull=False))
        return [_job(row, ()) for row in rows.order_by("id")[:limit]]

    def hold_back(self, cap: int, *, above: int) -> int:
        held = self._new().filter(outflow__gt=above, cap_lifted_at__isnull=True)
        count = held.count()
        if count:
            # Those that another cap holds back already keep it: a page tells of one.
            held.filter(held_by_cap=0).update(held_by_cap=cap)
        return count

    def outflow_since(self, start: float) -> int:
        rows = Intent.objects.filter(
            wallet=self.wallet_id,
            outflow__gt=0,
            cap_lifted_at__isnull=True,
            signed_at__gte=datetime.fromtimestamp(start, UTC),
        ).exclude(state__in=[State.NEW, State.FAILED])
        return int(rows.aggregate(total=Sum("outflow"))["total"] or 0)

    def outstanding(self, *, nonce: int) -> Outstanding:
        with connection.cursor() as cursor:
            # The attempt by whose hash the intent goes is the last, and the dearest.
            cursor.execute(
                """
                SELECT count(*), sum(i.value + i.gas_limit * a.maximum_fee), sum(i.gas_limit),
                       sum(length(a.raw)), min(i.nonce), min(i.signed_at)
                FROM ledger_intent i JOIN ledger_intentattempt a ON a.tx_hash = i.tx_hash
                WHERE i.wallet_id = %s AND i.state IN ('SIGNED', 'SEEN') AND i.nonce >= %s
                """,
                [self.wallet_id, nonce],
            )
            count, committed, gas, size, lowest, signed_at = cursor.fetchone()
        since = signed_at.timestamp() if signed_at else 0.0
        return Outstanding(count, int(committed or 0), int(gas or 0), int(size or 0), lowest, since)

    def open_jobs(self, limit: int, *, below: int) -> Sequence[Job]:
        rows = self._open().filter(nonce__lt=below).order_by("nonce")
        return _jobs(rows.prefetch_related("tries")[:limit])

    def due_jobs(self, limit: int, *, nonce: int, sent_before: float) -> Sequence[Job]:
        before = datetime.fromtimestamp(sent_before, UTC)
        due = (
            IntentAttempt.objects.filter(
                intent__wallet=self.wallet_id,
                intent__state__in=Intent.IN_FLIGHT,
                intent__nonce__gte=nonce,
                tx_hash=F("intent__tx_hash"),
            )
            .filter(Q(sent_at__isnull=True) | Q(sent_at__lte=before))
            .order_by("intent__nonce")
            .values_list("intent_id", flat=True)[:limit]
        )
        rows = Intent.objects.filter(pk__in=list(due)).order_by("nonce")
        return _jobs(rows.prefetch_related("tries"))

    def unused(self, nonces: Sequence[int]) -> Sequence[int]:
        rows = IntentAttempt.objects.filter(intent__wallet=self.wallet_id, nonce__in=list(nonces))
        known = set(rows.values_list("nonce", flat=True))
        return [nonce for nonce in nonces if nonce not in known]

    def oldest(self) -> tuple[int, float] | None:
        # Staff know of what the caps hold back, and it may wait as long as they like.
        to_sign = self._new().exclude(held_by_cap__gt=0, cap_lifted_at__isnull=True)
        waiting = to_sign | self._open()
        found = waiting.aggregate(since=Min("created_at"))["since"]
        return None if found is None else (waiting.count(), found.timestamp())

    # ------------------------------------------------------------------ writing

    def record_signed(self, orders: Sequence[Order], next_nonce: int) -> None:
        """Nonce, bytes and attempt of each, in the transaction that `writing` opened."""
        now = self.now()
        rows = self._locked([order.job.id for order in orders])
        for order in orders:
            row = rows[order.job.id]
            if row.state != State.NEW:
                raise LeaseLostError("Another process signed this intent; nothing was signed.")
            row.state, row.wallet_id = State.SIGNED, self.wallet_id
            row.nonce, row.tx_hash = order.attempt.nonce, order.attempt.tx_hash
            row.gas_limit, row.waits_for = order.gas, None
            row.signed_at = row.signed_at or now
        written = list(rows.values())
        write(
            written, ["state", "wallet", "nonce", "tx_hash", "gas_limit", "waits_for", "signed_at"]
        )
        self._keep(orders)
        ChainWallet.objects.filter(pk=self.wallet_id).update(next_nonce=next_nonce)
        self._announce(written)

    def record_attempts(self, orders: Sequence[Order]) -> None:
        """Other bytes at the same nonces, in the transaction that `writing` opened."""
        rows = self._locked([order.job.id for order in orders])
        for order in orders:
            row = rows[order.job.id]
            row.tx_hash, row.gas_limit = order.attempt.tx_hash, order.gas
        write(list(rows.values()), ["tx_hash", "gas_limit"])
        self._keep(orders)

    def record_void(self, order: Order, reason: str) -> None:
        """The intent is given up; it fails once its nonce is used up and final."""
        row = self._locked([order.job.id])[order.job.id]
        row.tx_hash, row.failure_reason = order.attempt.tx_hash, reason[:2000]
        row.save(update_fields=["tx_hash", "failure_reason"])
        self._keep([order])

    def record_fillers(self, attempts: Sequence[Attempt]) -> Sequence[Job]:
        """Transfers of nothing at nonces that were left out, in the transaction of `writing`."""
        now = self.now()
        wallet = ChainWallet.objects.get(pk=self.wallet_id)
        rows = [
            Intent(
                kind=Intent.Kind.FILL,
                key=f"fill:{wallet.pk}:{attempt.nonce}:{attempt.tx_hash}",
                state=State.SIGNED,
                chain_id=self.chain_id,
                to=wallet.address,
                data=b"",
                wallet=wallet,
                nonce=attempt.nonce,
                gas_limit=21_000,
                tx_hash=attempt.tx_hash,
                signed_at=now,
                failure_reason="It only used up a nonce that was left out.",
            )
            for attempt in attempts
        ]
        Intent.objects.bulk_create(rows)
        jobs = [_job(row, [attempt]) for row, attempt in zip(rows, attempts, strict=True)]
        self._keep(
            [Order(job, attempt, 21_000) for job, attempt in zip(jobs, attempts, strict=True)]
        )
        return jobs

    def record_sent(self, answers: Sequence[Answer]) -> None:
        now = self.now()
        by_hash = {answer.attempt.tx_hash: answer for answer in answers}
        with transaction.atomic():
            rows = self._locked([answer.job.id for answer in answers])
            tries = list(
                IntentAttempt.objects.select_for_update()
                .filter(tx_hash__in=by_hash)
                .defer("raw")
                .order_by("id")
            )
            seen = []
            for one in tries:
                answer = by_hash[one.tx_hash]
                one.sent_at, one.times_sent = now, one.times_sent + 1
                one.answer = answer.text[:2000]
                row = rows[one.intent_id]
                if not answer.accepted:
                    continue
                one.accepted_at = one.accepted_at or now
                if row.state == State.SIGNED:
                    row.state = State.SEEN
                    seen.append(row)
            write(tries, ["sent_at", "times_sent", "answer", "accepted_at"])
            write(seen, ["state"])
            self._announce(seen)

    def record_mined(self, mined: Sequence[Mined]) -> None:
        now = self.now()
        by_id = {item.job.id: item for item in mined}
        with transaction.atomic():
            rows = [
                row for row in self._locked(list(by_id)).values() if row.state in Intent.IN_FLIGHT
            ]
            for row in rows:
                item = by_id[row.pk]
                fill_in_receipt(row, item.receipt, noop=item.attempt.noop)
                row.state, row.mined_at = State.MINED, now
            write(rows, MINED_FIELDS)
            self._announce(rows)

    def record_failed(self, job: Job, reason: str) -> None:
        with transaction.atomic():
            row = self._locked([job.id])[job.id]
            if row.state != State.NEW:
                return
            row.state, row.failure_reason = State.FAILED, reason[:2000]
            row.settled_at = self.now()
            row.save(update_fields=["state", "failure_reason", "settled_at"])
            announce(row, at=self.now())

    def record_waiting(self, jobs: Sequence[tuple[Job, int]]) -> None:
        nonces = {job.id: nonce for job, nonce in jobs}
        with transaction.atomic():
            rows = list(self._locked(list(nonces)).values())
            for row in rows:
                row.waits_for = nonces[row.pk]
            write(rows, ["waits_for"])

    def record_renew(self, job: Job) -> None:
        """Its nonce went to another's transaction, so none of its bytes can ever be mined."""
        with self.writing():
            row = self._locked([job.id])[job.id]
            if row.state not in Intent.IN_FLIGHT:
                return
            row.nonce, row.tx_hash = None, ""
            if job.last.noop:
                # It was given up already, and what it held up is free now.
                row.state, row.settled_at = State.FAILED, self.now()
                row.save(update_fields=["state", "settled_at", "nonce", "tx_hash"])
            else:
                row.state = State.NEW
                row.save(update_fields=["state", "nonce", "tx_hash"])
            announce(row, at=self.now())

    # ------------------------------------------------------------------ inside

    def _new(self) -> QuerySet[Intent]:
        return Intent.objects.filter(state=State.NEW, chain_id=self.chain_id)

    def _open(self) -> QuerySet[Intent]:
        return Intent.objects.filter(wallet=self.wallet_id, state__in=Intent.IN_FLIGHT)

    def _locked_wallet(self) -> ChainWallet:
        wallet = ChainWallet.objects.select_for_update().get(pk=self.wallet_id)
        if wallet.lease_owner != self.token:
            raise LeaseLostError(f"Another process writes for {wallet.address} now.")
        return wallet

    def _locked(self, ids: Sequence[Any]) -> dict[Any, Intent]:
        rows = Intent.objects.select_for_update(of=("self",)).filter(pk__in=ids).defer("data")
        return {row.pk: row for row in rows.order_by("id")}

    def _keep(self, orders: Sequence[Order]) -> None:
        IntentAttempt.objects.bulk_create(
            [
                IntentAttempt(
                    intent_id=order.job.id,
                    nonce=order.attempt.nonce,
                    tx_hash=order.attempt.tx_hash,
                    raw=order.attempt.raw,
                    maximum_fee=order.attempt.fees.maximum,
                    priority_fee=order.attempt.fees.priority,
                    noop=order.attempt.noop,
                )
                for order in orders
            ]
        )

    def _announce(self, rows: Sequence[Intent]) -> None:
        for row in rows:
            announce(row, at=self.now())


def fill_in_receipt(row: Intent, receipt: Any, *, noop: bool) -> None:
    """What the receipt says; the caller writes MINED_FIELDS.

    Where the transaction of nothing was mined, the intent was not carried out, whatever became of
    that transaction.
    """
    row.tx_hash = receipt.tx_hash
    row.block_number, row.block_hash = receipt.block_number, receipt.block_hash
    row.succeeded, row.gas_used = receipt.succeeded and not noop, receipt.gas_used
    row.fee = receipt.fee
    if not noop:
        row.failure_reason = ""


def _jobs(rows: Any) -> list[Job]:
    return [_job(row, [_attempt(one) for one in row.tries.all()]) for row in rows]


def _job(row: Intent, attempts: Sequence[Attempt]) -> Job:
    return Job(
        id=row.pk,
        to=row.to,
        data=bytes(row.data),
        value=row.value,
        outflow=row.outflow,
        lifted=row.cap_lifted_at is not None,
        gas_limit=row.gas_limit,
        nonce=row.nonce,
        waits_for=row.waits_for,
        # Those at a nonce that went to another can never be mined.
        attempts=[one for one in attempts if one.nonce == row.nonce],
    )


def _attempt(row: IntentAttempt) -> Attempt:
    return Attempt(
        tx_hash=row.tx_hash,
        raw=bytes(row.raw),
        nonce=row.nonce,
        fees=Fees(maximum=row.maximum_fee, priority=row.priority_fee),
        noop=row.noop,
        sent_at=row.sent_at.timestamp() if row.sent_at else None,
        accepted_at=row.accepted_at.timestamp() if row.accepted_at else None,
        times_sent=row.times_sent,
    )
