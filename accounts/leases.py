"""Claiming work by compare-and-set, and taking it back from workers that died.

A worker claims a row, renews its lease while it works, and gives it up at the end. Where the
lease runs out the sweeper puts the work back, or fails it after too many attempts.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from accounts import audit, prepared
from accounts.models import WorkItem

logger = logging.getLogger(__name__)

Requeue = Callable[[UUID, datetime], None]
Fail = Callable[[UUID, str, datetime], None]


@dataclass(frozen=True)
class Sweepable:
    model: type[WorkItem]
    running_states: tuple[str, ...]
    requeue: Requeue
    fail: Fail


_sweepable: list[Sweepable] = []


def _rows(model: type[WorkItem]) -> Any:
    """All rows of `model`; untyped, since only the concrete model has `state`."""
    return model._default_manager.all()


def worker_name() -> str:
    """Name this process for `lease_owner`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def claim(
    model: type[WorkItem],
    pk: UUID | str,
    *,
    from_states: Iterable[str],
    to_state: str,
    owner: str,
    at: datetime,
    lease: timedelta | None = None,
    may_be_lost: bool = False,
) -> bool:
    """Take the row if it still is in one of `from_states`; False means somebody else has it.

    With `may_be_lost` nobody waits for the disk, where somebody waits for the work: a server that
    crashes within the next moments may forget the claim. The row then is whose it was before, and
    the worker, whose every later change looks at `lease_owner`, has lost its lease. Any change that
    it commits durably makes the claim durable, too, since the log is written in its order. Within a
    transaction of the caller's it means nothing: what else that one writes must not be lost.
    """
    ends = at + (lease or settings.WORK_LEASE)
    waits = not may_be_lost or connection.in_atomic_block
    statement = _CLAIM.format(
        table=model._meta.db_table,
        given="id" if waits else "set_config('synchronous_commit', 'off', true)",
    )
    values = [str(to_state), owner, ends, pk, [str(one) for one in from_states]]
    return bool(prepared.fetch(statement, values))


_CLAIM = """
UPDATE {table} SET
    state = $1::varchar, lease_owner = $2::varchar, attempts = attempts + 1,
    lease_expires_at = $3::timestamptz
WHERE id = $4::uuid AND state = ANY ($5::varchar[]) RETURNING {given}
"""


def heartbeat(
    model: type[WorkItem],
    pk: UUID | str,
    *,
    owner: str,
    at: datetime,
    lease: timedelta | None = None,
) -> bool:
    """Renew the lease; False means that it was lost and the work must stop."""
    rows = model._default_manager.filter(pk=pk, lease_owner=owner)
    return bool(rows.update(lease_expires_at=at + (lease or settings.WORK_LEASE)))


def heartbeat_all(
    model: type[WorkItem], *, owner: str, at: datetime, lease: timedelta | None = None
) -> int:
    """Renew the leases of all rows that `owner` has; returns how many."""
    rows = model._default_manager.filter(lease_owner=owner)
    return rows.update(lease_expires_at=at + (lease or settings.WORK_LEASE))


def finish(
    model: type[WorkItem],
    pk: UUID | str,
    *,
    owner: str,
    to_state: str,
    failure_reason: str = "",
) -> bool:
    """Move the row to `to_state` and give up the lease; False means that it was lost."""
    rows: Any = model._default_manager.filter(pk=pk, lease_owner=owner)
    return bool(
        rows.update(
            state=to_state, lease_owner="", lease_expires_at=None, failure_reason=failure_reason
        )
    )


def put_back(
    model: type[WorkItem], pk: UUID, *, running_states: Iterable[str], to_state: str, at: datetime
) -> None:
    """Let the next worker claim what one has lost. Where no message of it arrives, the lease that
    nobody has runs out and it is put back again."""
    rows = _rows(model).filter(pk=pk, state__in=list(running_states))
    rows.update(state=to_state, lease_owner="", lease_expires_at=at + settings.WORK_LEASE)


def give_up(
    model: type[WorkItem],
    pk: UUID,
    *,
    done_state: str,
    reason: str,
    verb: str,
    owner: str | None,
    at: datetime,
    told: Mapping[str, str] | None = None,
) -> None:
    """Move the row to FAILED, unless it is done, or `owner` is named and has lost the lease. The
    audit event holds the reason and what else is `told`."""
    with transaction.atomic():
        row = _rows(model).select_for_update().get(pk=pk)
        if row.state == done_state or owner not in (None, row.lease_owner):
            return
        row.state, row.failure_reason = "FAILED", reason
        row.lease_owner, row.lease_expires_at = "", None
        row.save(update_fields=["state", "failure_reason", "lease_owner", "lease_expires_at"])
        audit.record(
            actor=None, verb=verb, target=row, at=at, data={"reason": reason, **(told or {})}
        )


def register(
    model: type[WorkItem], *, running_states: Iterable[str], requeue: Requeue, fail: Fail
) -> None:
    """Have the sweeper watch `model`. `requeue` and `fail` run inside its transaction."""
    _sweepable.append(Sweepable(model, tuple(running_states), requeue, fail))


def sweep(*, at: datetime) -> int:
    """Put back or fail all work whose lease ran out; return how many rows were touched."""
    return sum(_sweep_model(item, at) for item in _sweepable)


def _sweep_model(item: Sweepable, at: datetime) -> int:
    with transaction.atomic():
        lost: Any = (
            _rows(item.model)
            .select_for_update(skip_locked=True, of=("self",))
            .filter(state__in=item.running_states, lease_expires_at__lt=at)
            .order_by("lease_expires_at")[:100]
        )
        return sum(_take_back(item, row, at) for row in lost)


def _take_back(item: Sweepable, row: Any, at: datetime) -> bool:
    try:
        with transaction.atomic():
            if row.attempts < settings.WORK_ATTEMPTS:
                logger.warning("%s %s: lease ran out, again", item.model.__name__, row.pk)
                item.requeue(row.pk, at)
            else:
                reason = (
                    f"The worker stopped answering {row.attempts} times. "
                    "Look at the worker's log, then start this again."
                )
                item.fail(row.pk, reason, at)
    except Exception:
        # One row that cannot be put back must not keep all others from it.
        logger.exception("%s %s could not be put back", item.model.__name__, row.pk)
        return False
    return True
