"""Making people known."""

from datetime import datetime

from django.db import transaction
from django.utils.text import slugify

from accounts import audit
from accounts.models import User


def unclaimed_contributor(*, namespace: str, name: str, acting_user: User, at: datetime) -> User:
    """Return the contributor that a bulk import calls `name`, made at the first mention.

    `namespace` (a Datanet's slug) keeps equal names of two Datanets apart.
    """
    handle = f"{slugify(namespace)}-{slugify(name) or 'unnamed'}"[:100]
    with transaction.atomic():
        user, is_new = User.objects.get_or_create(
            handle=handle,
            defaults={
                "kind": User.Kind.UNCLAIMED,
                "display_name": name[:120],
                "is_active": False,
            },
        )
        if is_new:
            user.set_unusable_password()
            user.save(update_fields=["password"])
            audit.record(actor=acting_user, verb="user.named", target=user, at=at)
    return user
