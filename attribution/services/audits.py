"""Publishing what an audit of an index found. Nothing here computes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Max, Q

from accounts import audit
from attribution.models import Checkpoint, Index, IndexAudit
from attribution.services import log

SCHEMA = "openledger-index-audit/1"
EVERY = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was computed again: verdicts by record id, and the group whose sum was added up."""

    records: Mapping[str, str]
    group: str
    group_records: int
    group_sum: str
    holds: bool


def seed() -> str:
    """The root of the newest signed head: known to all, and to nobody when the index was built."""
    newest = Checkpoint.objects.order_by("-size").values_list("root", flat=True).first()
    return newest or "0" * 64


def due(*, at: datetime, beside: Collection[UUID] = ()) -> Index | None:
    """The index that was audited longest ago, a week or more; those that never were come first.
    None of `beside`."""
    rows = Index.objects.filter(state=Index.State.READY).annotate(last=Max("audits__at"))
    waiting = rows.filter(Q(last=None) | Q(last__lte=at - EVERY))
    return (
        waiting.exclude(pk__in=beside).order_by(F("last").asc(nulls_first=True), "ready_at").first()
    )


def publish(
    *, index_id: UUID, root: str, found: Finding, drawn_by: str, at: datetime
) -> IndexAudit:
    """Keep what was found of the index when it had `root`, and put it into the log."""
    with transaction.atomic():
        index = Index.objects.get(pk=index_id)
        row = IndexAudit(index=index, holds=found.holds, at=at)
        row.body = _body(row, root, found, drawn_by)
        row.save()
        log.append_statement(kind="audit", subject_id=row.pk, body=row.body, at=at)
        audit.record(
            actor=None,
            verb="attribution.index_audited",
            target=index,
            at=at,
            data={"audit": str(row.pk), "holds": row.holds},
        )
    return row


def _body(row: IndexAudit, root: str, found: Finding, drawn_by: str) -> dict[str, Any]:
    """Ids of records say nothing of what stands in them."""
    return {
        "schema": SCHEMA,
        "audit": str(row.pk),
        "index_root": root,
        "model": str(row.index.model_id),
        "drawn_by": drawn_by,
        "records": dict(found.records),
        "group": found.group or None,
        "group_records": found.group_records,
        "group_sum": found.group_sum or None,
        "holds": found.holds,
        "at": row.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
