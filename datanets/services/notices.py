"""Notifications about one thing are folded while the person has not read the last one."""

from datetime import datetime

from accounts.models import Notification, User
from accounts.notifications import notify


def notify_once(
    *, user: User, kind: str, title: str, at: datetime, body: str = "", url: str = ""
) -> None:
    """Notify, or refresh the unread notification of the same kind about the same page."""
    unread = Notification.objects.filter(user=user, kind=kind, url=url, read_at__isnull=True)
    if not unread.update(title=title[:200], body=body, at=at):
        notify(user=user, kind=kind, title=title, body=body, url=url, at=at)
