"""The mirror's rows: blocks, events, and what they mean. For the `chain` worker alone."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from accounts import events as domain_events
from ledger.chain.client import Block, ChainClient, ChainError
from ledger.chain.deployment import Deployment
from ledger.chain.indexer import (
    Event,
    FinalityBrokenError,
    ForeignChainError,
    Head,
    Indexer,
    Progress,
)
from ledger.errors import LedgerError
from ledger.models.chain import ChainBlock, ChainHead, ChainLog, Intent
from ledger.services import halting, watching
from ledger.services.alarms import alarm_staff
from ledger.services.chain import log_rule, rules_for_safe
from ledger.services.confirming import take_back_all
from ledger.services.gone import remember_gone

logger = logging.getLogger(__name__)

LOCK = 0x6F6C_6963  # "olic": one indexer at a time
# Blocks without events that are kept below the final one, to find back to after a reorganisation.
KEPT_BLOCKS = 256
PRUNE_EVERY = 128
STEPS_AT_ONCE = 20


def index_chain(
    *, client: ChainClient, deployment: Deployment, confirmations: int, at: datetime
) -> Progress | None:
    """Read what is new and write what it means.

    None where another process is at it, and while the chain is halted. Raises ChainError; the next
    call takes it up, but after FinalityBrokenError only once staff have lifted the halt.
    """
    with _alone() as mine:
        if not mine or halting.is_halted(deployment.chain_id):
            return None
        store = MirrorStore(deployment, at)
        indexer = Indexer(
            client,
            deployment,
            store,
            confirmations=confirmations,
            forgets=settings.CHAIN_IS_LOCAL,
        )
        try:
            progress = _catch_up(indexer)
            trouble = _stale(progress, at)
        except FinalityBrokenError as error:
            halting.halt_chain(
                chain_id=deployment.chain_id, reason=str(error), ancestor=error.ancestor, at=at
            )
            raise
        except ForeignChainError as error:
            # Nothing mends this but a person; the mirror stands still and says why.
            ChainHead.objects.filter(chain_id=deployment.chain_id).update(
                problem=str(error), checked_at=at
            )
            raise
        except ChainError as error:
            watching.report(chain_id=deployment.chain_id, trouble=str(error), at=at)
            raise
        watching.report(chain_id=deployment.chain_id, trouble=trouble, at=at)
        apply_logs(chain_id=deployment.chain_id, at=at)
        return progress


def _stale(progress: Progress, at: datetime) -> str:
    """What is wrong with a node that answers and does not go on; "" where it does."""
    if progress.behind < 0:
        return f"The node stands at block {progress.latest}, behind the mirror at {progress.head}."
    age = at.timestamp() - progress.latest_time
    if 0 < settings.CHAIN_STALE_SECONDS < age:
        minutes = int(age // 60)
        return f"The node's newest block {progress.latest} is {minutes} minutes old."
    return ""


def _catch_up(indexer: Indexer) -> Progress:
    progress = indexer.step()
    for _ in range(STEPS_AT_ONCE):
        if progress.behind <= 0:
            break
        progress = indexer.step()
    return progress


def apply_logs(*, chain_id: int, at: datetime) -> int:
    """Give each event to its handler, once, when its block is safe or final, as the event asks for.

    Returns how many were given. What is kept aside (`problem`) waits for staff.
    """
    head = ChainHead.objects.get(chain_id=chain_id)
    counts_when_safe = Q()
    for contract, event in rules_for_safe():
        counts_when_safe |= Q(contract=contract, event=event)
    ripe = Q(block__number__lte=head.final_number) | (
        Q(block__number__lte=head.safe_number) & counts_when_safe
    )
    waiting = ChainLog.objects.filter(
        ripe, applied_at__isnull=True, problem="", block__chain_id=chain_id
    ).order_by("block__number", "log_index")
    return sum(_apply(log_id, at) for log_id in list(waiting.values_list("pk", flat=True)[:1000]))


class MirrorStore:
    """`ledger.chain.indexer.IndexStore` on our tables."""

    def __init__(self, deployment: Deployment, at: datetime) -> None:
        self.deployment = deployment
        self.chain_id = deployment.chain_id
        self.at = at

    def head(self) -> Head | None:
        row = ChainHead.objects.filter(chain_id=self.chain_id).first()
        return None if row is None else Head(row.number, row.hash)

    def hash_at(self, number: int) -> str | None:
        found: str | None = (
            self._blocks().filter(number=number).values_list("hash", flat=True).first()
        )
        return found

    def numbers_below(self, number: int) -> Sequence[int]:
        below = self._blocks().filter(number__lt=number).order_by("-number")
        return list(below.values_list("number", flat=True))

    @transaction.atomic
    def save(self, blocks: Sequence[Block], events: Sequence[Event], head: Block) -> None:
        rows = [
            ChainBlock(
                chain_id=self.chain_id,
                number=block.number,
                hash=block.hash,
                parent_hash=block.parent_hash,
                timestamp=block.timestamp,
            )
            for block in blocks
        ]
        ChainBlock.objects.bulk_create(rows)
        by_hash = {row.hash: row for row in rows}
        logs = [self._log(event, by_hash[event.log.block_hash]) for event in events]
        ChainLog.objects.bulk_create(logs)
        ChainHead.objects.update_or_create(
            chain_id=self.chain_id,
            defaults={
                "genesis_hash": self.deployment.genesis_hash,
                "number": head.number,
                "hash": head.hash,
                "timestamp": head.timestamp,
                "problem": "",
                "checked_at": self.at,
            },
        )
        self._emit("SEEN", logs)

    def final(self) -> int:
        found = ChainHead.objects.filter(chain_id=self.chain_id).values_list("final_number")
        return max((number for (number,) in found), default=0)

    @transaction.atomic
    def rewind(self, number: int) -> None:
        """Take back every block above `number`, and send again what was mined in one of them."""
        kept = self._blocks().get(number=number)
        remember_gone(blocks=self._blocks().filter(number__gt=number), at=self.at)
        self._undo_above(number)
        self._blocks().filter(number__gt=number).delete()
        head = ChainHead.objects.select_for_update().get(chain_id=self.chain_id)
        head.number, head.hash, head.timestamp = number, kept.hash, kept.timestamp
        head.safe_number = min(head.safe_number, number)
        head.final_number = min(head.final_number, number)
        head.save(update_fields=["number", "hash", "timestamp", "safe_number", "final_number"])
        gone = Intent.objects.select_for_update(of=("self",)).filter(
            chain_id=self.chain_id, block_number__gt=number
        )
        take_back_all(list(gone.order_by("id")), at=self.at)
        payload = {"chain_id": self.chain_id, "number": number}
        domain_events.emit("ledger.chain_rewound", payload, at=self.at)

    def window(self) -> int:
        kept = ChainHead.objects.filter(chain_id=self.chain_id).values_list("window", flat=True)
        return kept.first() or ChainHead.WINDOW

    def keep_window(self, blocks: int) -> None:
        changed = ChainHead.objects.filter(chain_id=self.chain_id).exclude(window=blocks)
        changed.update(window=blocks)

    @transaction.atomic
    def finality(self, safe: int, final: int) -> None:
        head = ChainHead.objects.select_for_update().get(chain_id=self.chain_id)
        if (safe, final) == (head.safe_number, head.final_number):
            return
        before = head.final_number
        # A node that is behind another one must not take back what was final.
        head.safe_number = max(head.safe_number, safe)
        head.final_number = max(head.final_number, final)
        head.save(update_fields=["safe_number", "final_number"])
        self._emit("FINAL", self._logs_between(before, head.final_number))
        if head.final_number // PRUNE_EVERY != before // PRUNE_EVERY:
            self._blocks().filter(
                number__lt=head.final_number - KEPT_BLOCKS, logs__isnull=True
            ).delete()

    def _undo_above(self, number: int) -> None:
        """Undo what the ledger wrote for events of blocks above `number`, the last one first."""
        applied = ChainLog.objects.select_related("block").filter(
            block__chain_id=self.chain_id, block__number__gt=number, applied_at__isnull=False
        )
        for log in applied.order_by("-block__number", "-log_index"):
            rule = log_rule(log.contract, log.event)
            if rule is None or rule.undo is None:
                continue
            try:
                with transaction.atomic():
                    rule.undo(log, self.at)
            except LedgerError as error:
                # The mirror must follow the chain all the same; reconcile shows what is left.
                logger.exception("event %s was not undone", log.pk)
                alarm_staff(
                    title=f"{log.contract}.{log.event} could not be undone",
                    body=f"Transaction {log.tx_hash}: {error.message}",
                    at=self.at,
                )

    def _blocks(self) -> Any:
        return ChainBlock.objects.filter(chain_id=self.chain_id)

    def _logs_between(self, above: int, last: int) -> Sequence[ChainLog]:
        return list(
            ChainLog.objects.filter(
                block__chain_id=self.chain_id, block__number__gt=above, block__number__lte=last
            )
        )

    def _log(self, event: Event, block: ChainBlock) -> ChainLog:
        handled = log_rule(event.contract, event.name) is not None
        return ChainLog(
            block=block,
            tx_hash=event.log.tx_hash,
            log_index=event.log.log_index,
            contract=event.contract,
            address=event.log.address,
            event=event.name,
            arguments=as_json(event.arguments),
            applied_at=None if handled else self.at,
        )

    def _emit(self, stage: str, logs: Sequence[ChainLog]) -> None:
        by_contract: dict[str, list[str]] = defaultdict(list)
        for log in logs:
            by_contract[log.contract].append(str(log.pk))
        for contract, ids in by_contract.items():
            payload = {
                "chain_id": self.chain_id, "contract": contract, "stage": stage, "log_ids": ids,
            }  # fmt: skip
            domain_events.emit("ledger.chain_logs", payload, at=self.at)


def as_json(value: Any) -> Any:
    """Integers as decimal strings, bytes as 0x…, the rest as it is."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Mapping):
        return {key: as_json(part) for key, part in value.items()}
    return [as_json(part) for part in value]


def _apply(log_id: UUID, at: datetime) -> int:
    try:
        with transaction.atomic():
            log = (
                ChainLog.objects.select_for_update(of=("self",))
                .select_related("block")
                .filter(pk=log_id, applied_at__isnull=True)
                .first()
            )
            if log is None:
                return 0
            rule = log_rule(log.contract, log.event)
            if rule is None:
                return 0
            rule.apply(log, at)
            log.applied_at = at
            log.save(update_fields=["applied_at"])
            return 1
    except LedgerError as error:
        # The chain did what the ledger cannot explain: kept aside for staff, the rest goes on.
        logger.exception("event %s was not applied", log_id)
        ChainLog.objects.filter(pk=log_id).update(problem=f"{error.code}: {error.message}")
        alarm_staff(
            title="An event of the chain was not booked; look at it", body=error.message, at=at
        )
        return 0


@contextmanager
def _alone() -> Iterator[bool]:
    """A lock of this session, which PostgreSQL gives up should the process die."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        mine = bool(cursor.fetchone()[0])
        try:
            yield mine
        finally:
            if mine:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
