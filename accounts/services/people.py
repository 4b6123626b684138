"""Making people known."""

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256

from django.db import transaction
from django.utils.text import slugify

from accounts import audit
from accounts.models import User
from accounts.naming import make_with_free_name

HANDLE_CHARS = 100
DIGEST_CHARS = 16


def unclaimed_contributor(*, namespace: str, name: str, acting_user: User, at: datetime) -> User:
    """Return the contributor that a bulk import calls `name`, made at the first mention.

    `namespace` (a Datanet's slug) keeps equal names of two Datanets apart. Whom a name means is
    told by the name's own hash and never by the handle, which anybody may have taken before.
    """
    key = sha256(f"{namespace}\n{name}".encode()).hexdigest()
    with transaction.atomic():
        return _named(key) or make_with_free_name(
            _handles(slugify(namespace), slugify(name), key),
            is_taken=User.objects.is_handle_taken,
            make=lambda handle: _make(handle, key, name, acting_user, at),
        )


def _named(key: str) -> User | None:
    return User.objects.filter(name_key=key, kind=User.Kind.UNCLAIMED).first()


def _make(handle: str, key: str, name: str, acting_user: User, at: datetime) -> User:
    """Two imports that mention a new name at once both get the one that came first."""
    user, is_new = User.objects.get_or_create(
        name_key=key,
        defaults={
            "handle": handle,
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


def _handles(namespace: str, slug: str, key: str) -> Iterator[str]:
    """The readable handle where it fits, then ones that end in the name's hash.

    "C", "C#" and "李" may come to the same plain letters, or to none.
    """
    readable = f"{namespace}-{slug}"
    if slug and len(readable) <= HANDLE_CHARS:
        yield readable
    for end in range(DIGEST_CHARS, len(key) + 1, DIGEST_CHARS):
        yield f"{readable.rstrip('-')[: HANDLE_CHARS - 1 - end]}-{key[:end]}"
