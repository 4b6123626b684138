"""What a person changes and reads about themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.models import ApiKey, AuditEvent, Notification, User


class HandleTaken(Exception):
    """Somebody else has this handle, or a page of ours does."""


def update_profile(
    *, user: User, display_name: str, acting_user: User, at: datetime, handle: str = ""
) -> None:
    """Change what others see; no `handle` keeps the one that is. Raises HandleTaken."""
    before, handle = user.handle, handle or user.handle
    if handle != before and User.objects.is_handle_taken(handle):
        raise HandleTaken
    try:
        with transaction.atomic():
            User.objects.filter(pk=user.pk).update(display_name=display_name, handle=handle)
            data = {"handle": [before, handle]} if handle != before else None
            audit.record(
                actor=acting_user, verb="user.profile_changed", target=user, data=data, at=at
            )
    except IntegrityError:
        raise HandleTaken from None
    user.refresh_from_db(fields=["display_name", "handle"])


def mark_read(*, user: User, at: datetime, notification: Notification | None = None) -> int:
    """Mark one notification read, or all of them; how many were unread."""
    unread = Notification.objects.filter(user=user, read_at__isnull=True)
    if notification is not None:
        unread = unread.filter(pk=notification.pk)
    return unread.update(read_at=at)


def export(*, user: User, at: datetime) -> dict[str, Any]:
    """Everything that the ground floor knows about a person, as plain JSON."""
    return {
        "format": "openledger-person/1",
        "exported_at": at.isoformat(),
        "person": {
            "id": str(user.pk),
            "handle": user.handle,
            "display_name": user.display_name,
            "email": user.email,
            "joined_at": user.date_joined.isoformat(),
        },
        "wallets": list(user.wallets.order_by("created_at").values_list("address", flat=True)),
        "api_keys": [
            {
                "name": key.name,
                "prefix": key.prefix,
                "created_at": key.created_at.isoformat(),
                "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
            }
            for key in ApiKey.objects.filter(user=user).order_by("created_at")
        ],
        "notifications": [
            {"at": row.at.isoformat(), "kind": row.kind, "title": row.title, "body": row.body}
            for row in Notification.objects.filter(user=user).order_by("at")
        ],
        "actions": [
            {
                "at": row.at.isoformat(),
                "verb": row.verb,
                "target": f"{row.target_kind} {row.target_id}",
                "data": row.data,
            }
            for row in AuditEvent.objects.filter(actor=user).order_by("at")
        ],
    }
