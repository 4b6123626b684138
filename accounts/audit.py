"""The audit trail: one event for every state-changing act, in the transaction of the act."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, models
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import AuditEvent, User


def record(
    *,
    actor: User | None,
    verb: str,
    target: models.Model,
    at: datetime,
    data: dict[str, Any] | None = None,
) -> AuditEvent:
    return AuditEvent.objects.create(
        actor=actor,
        verb=verb,
        target_kind=target._meta.label_lower,
        target_id=target.pk,
        data=data or {},
        at=at,
    )


@dataclass(frozen=True, slots=True)
class Act:
    """What `record` is told, for many at once."""

    actor: User | None
    verb: str
    target: models.Model
    data: dict[str, Any] = field(default_factory=dict)


def record_many(acts: Sequence[Act], *, at: datetime) -> None:
    """Record all acts in one statement, without an object for each."""
    if not acts:
        return
    rows = [
        {
            "id": uuid7().hex,
            "actor": act.actor.pk.hex if act.actor else None,
            "verb": act.verb,
            "kind": act.target._meta.label_lower,
            "target": act.target.pk.hex,
            "data": act.data,
        }
        for act in acts
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_auditevent
                (id, created_at, actor_id, verb, target_kind, target_id, data, at)
            SELECT id, %s, actor, verb, kind, target, data, %s
            FROM jsonb_to_recordset(%s::jsonb) AS act
                (id uuid, actor uuid, verb text, kind text, target uuid, data jsonb)
            """,
            [timezone.now(), at, json.dumps(rows)],
        )
