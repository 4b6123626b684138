"""The people who walk the tour: the demo's logins where they exist, made otherwise."""

from accounts.models import User
from config.sample.people import LOGINS


def tour_people() -> dict[str, User]:
    """Return the actors by handle."""
    people = {}
    for login in LOGINS:
        user = User.objects.filter(email__iexact=login.email).first()
        if user is None:
            user = User.objects.create_user(
                login.email,
                None,
                handle=User.objects.free_handle(login.handle),
                display_name=login.name,
                is_staff=login.is_staff,
            )
        people[login.handle] = user
    return people
