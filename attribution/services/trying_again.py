"""What has failed, put back to work by a person: an answer by who paid for it, all by staff."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.models import User
from attribution import failures
from attribution.models import Attribution
from attribution.services import indexes, receipts, span_indexes
from modelfactory.models import Model

# So many answers are put back in one transaction.
BATCH = 1000


class Tried(NamedTuple):
    """How many go on."""

    indexes: int
    attributions: int


def may_try_again(attribution: Attribution, user: Any) -> bool:
    """Who paid for the answer, and staff."""
    return bool(user.is_authenticated and (user.is_staff or user.pk == attribution.payer_id))


def try_answer_again(*, attribution: Attribution, acting_user: User, at: datetime) -> bool:
    """FAILED → QUEUED; whether it was failed. Raises PermissionDenied."""
    if not may_try_again(attribution, acting_user):
        raise PermissionDenied("Only who paid for the answer and staff can have this tried again.")
    return bool(_again([attribution.pk], acting_user, at))


def try_all_again(*, acting_user: User | None, at: datetime, model: Model | None = None) -> Tried:
    """Put every index and answer that has failed back to work, or those of one model.

    For staff; None is who runs commands on the machine. The indexes come first, so that answers
    wait for them. Raises PermissionDenied.
    """
    if acting_user is not None and not acting_user.is_staff:
        raise PermissionDenied("Only staff can have everything tried again.")
    for pk in failures.failed_span_indexes().values_list("pk", flat=True):
        span_indexes.try_again(index_id=pk, at=at)
    failed = failures.failed_indexes()
    if model is not None:
        failed = failed.filter(model=model)
    built = [
        indexes.request_index(model_id=pk, acting_user=acting_user, at=at)
        for pk in failed.values_list("model_id", flat=True)
    ]
    batches = _batches(failures.failed_answers(model))
    return Tried(len(built), sum(_again(pks, acting_user, at) for pks in batches))


def _again(attribution_ids: list[UUID], acting_user: User | None, at: datetime) -> int:
    with transaction.atomic():
        found = receipts.try_failed_again(attribution_ids=attribution_ids, at=at)
        acts = [
            audit.Act(
                acting_user,
                "attribution.tried_again",
                row,
                {"completion": str(row.completion_id), "reason": row.failure_reason},
            )
            for row in found
        ]
        audit.record_many(acts, at=at)
    return len(found)


def _batches(stuck: QuerySet[Attribution]) -> Iterator[list[UUID]]:
    """By id, so that one that fails once more meanwhile is not tried for ever."""
    left = stuck.order_by("pk").values_list("pk", flat=True)
    pks = list(left[:BATCH])
    while pks:
        yield pks
        pks = list(left.filter(pk__gt=pks[-1])[:BATCH])
