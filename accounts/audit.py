"""The audit trail: one event for every state-changing act, in the transaction of the act."""

from datetime import datetime
from typing import Any

from django.db import models

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
