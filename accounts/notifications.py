"""Tells a person what happened to something of theirs."""

from datetime import datetime

from accounts.models import Notification, User


def notify(
    *, user: User, kind: str, title: str, at: datetime, body: str = "", url: str = ""
) -> Notification | None:
    """Write a notification; an unclaimed contributor has nobody to read it and gets none."""
    if user.kind == User.Kind.UNCLAIMED:
        return None
    return Notification.objects.create(
        user=user, kind=kind, title=title[:200], body=body, url=url, at=at
    )
