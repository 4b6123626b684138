"""Who is asking, typed."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts.models import User


def signed_in_user(request: HttpRequest) -> User:
    """The signed-in person. Raises PermissionDenied where nobody is (a view forgot its guard)."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
