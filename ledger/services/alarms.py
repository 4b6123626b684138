"""Telling staff of what no machine can mend."""

from datetime import datetime

from accounts.models import User
from accounts.notifications import notify


def alarm_staff(*, title: str, at: datetime, body: str = "", url: str = "/staff/") -> None:
    """Write a notification for each member of staff."""
    for person in User.objects.filter(is_staff=True, is_active=True):
        notify(user=person, kind="ledger.alarm", url=url, at=at, title=title, body=body)
