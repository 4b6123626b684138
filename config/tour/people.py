"""The people who walk the tour: the demo's logins where they exist, made otherwise."""

from django.utils import timezone

from accounts.models import User
from config.sample.foundation import make_person
from config.sample.people import LOGINS


def tour_people() -> dict[str, User]:
    """Return the actors by the handle of their login."""
    found = {
        login.handle: User.objects.filter(email__iexact=login.email).first() for login in LOGINS
    }
    return {
        login.handle: found[login.handle] or make_person(login, timezone.now()) for login in LOGINS
    }
