"""What every page needs to know."""

from django.conf import settings
from django.http import HttpRequest

from accounts.models import Notification


def house(request: HttpRequest) -> dict[str, object]:
    user = getattr(request, "user", None)
    unread = 0
    if user is not None and user.is_authenticated:
        unread = Notification.objects.filter(user=user, read_at__isnull=True).count()
    return {
        "unread_notifications": unread,
        "chain_enabled": settings.CHAIN_ENABLED,
        "chain_is_local": settings.CHAIN_IS_LOCAL,
    }
