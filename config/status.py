"""Whether the books agree and the machinery runs: what the public status page tells."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from accounts import workers
from accounts.models import OutboxMessage
from attribution.models import Checkpoint, LogLeaf
from config.models import Reconciliation
from ledger.models import ChainHead, Distribution
from ledger.words import open_text

HISTORY = 30
QUEUES = ("default", "ingest", "train", "attribute", "chain", "generate")


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison in words; `expected` and `off` carry their unit."""

    name: str
    holds: bool
    expected: str
    off: str
    detail: str


@dataclass(frozen=True)
class Books:
    """The last comparison, line by line; `last` is None before the first."""

    last: Reconciliation | None
    lines: list[Line]

    @property
    def different(self) -> list[Line]:
        return [line for line in self.lines if not line.holds]


@dataclass(frozen=True)
class Overview:
    books: Books
    history: QuerySet[Reconciliation]
    chain: ChainHead | None
    chain_enabled: bool
    checkpoint: Checkpoint | None
    unlogged: int
    distribution: Distribution | None
    workers: dict[str, int]
    unsent: int
    at: datetime


def books() -> Books:
    last = Reconciliation.objects.first()
    return Books(last, [_line(finding) for finding in last.findings] if last else [])


def overview(*, at: datetime) -> Overview:
    """Nothing here names a person, a worker's machine or what anybody may spend."""
    enabled = settings.CHAIN_ENABLED
    return Overview(
        books=books(),
        history=Reconciliation.objects.all()[:HISTORY],
        chain=ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first() if enabled else None,
        chain_enabled=enabled,
        checkpoint=Checkpoint.objects.order_by("-size").first(),
        unlogged=LogLeaf.objects.filter(index__isnull=True).count(),
        distribution=Distribution.objects.filter(state=Distribution.State.ACTIVE)
        .order_by("-epoch")
        .first(),
        workers=_workers(at),
        unsent=OutboxMessage.objects.filter(sent_at__isnull=True, available_at__lte=at).count(),
        at=at,
    )


def _workers(at: datetime) -> dict[str, int]:
    """Live workers by kind of queue; 0 where none lives, so that what is missing is seen."""
    alive = workers.live_workers(at=at).values_list("queue", flat=True)
    counted = Counter(queue.partition(".")[0] for queue in alive)
    wanted = [name for name in QUEUES if name != "chain" or settings.CHAIN_ENABLED]
    return {name: counted[name] for name in wanted}


def _line(finding: dict[str, Any]) -> Line:
    name, rows, _ = finding["name"].partition(" (rows)")
    expected, off = int(finding["expected"]), int(finding["difference"])
    return Line(
        name=name,
        holds=finding["holds"],
        expected=f"{expected}" if rows else f"{open_text(expected)} OPEN",
        off=f"{off:+d} {'rows' if rows else 'wei'}",
        detail=finding["detail"],
    )
