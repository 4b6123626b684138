"""Making, checking and revoking API keys."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from accounts import audit
from accounts.compiled import Compiled
from accounts.models import ApiKey, Scope, User

MARK = "olk_"
SECRET_LENGTH = 40
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Writing the time of use on every request would make the key's row a hot one.
USE_NOTED_EVERY = timedelta(minutes=1)


_LIVE = Compiled(
    lambda digest, at: (
        ApiKey.objects.select_related("user")
        .filter(secret_sha256=digest, revoked_at__isnull=True, user__is_active=True)
        .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=at))
    )
)


@dataclass(frozen=True, slots=True)
class Limits:
    """`spend_cap` in wei a month, 0 for none; a limit that is None is the house's."""

    spend_cap: int = 0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


def create_key(
    *,
    user: User,
    name: str,
    acting_user: User,
    at: datetime,
    expires_at: datetime | None = None,
    scopes: Collection[Scope] = tuple(Scope),
    limits: Limits | None = None,
) -> tuple[ApiKey, str]:
    """Return the key's row and the secret, which is shown once and not kept."""
    limits = limits or Limits()
    secret = MARK + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    with transaction.atomic():
        key = ApiKey.objects.create(
            user=user,
            name=name,
            prefix=secret[:10],
            secret_sha256=_digest(secret),
            expires_at=expires_at,
            scopes=[scope.value for scope in Scope if scope in scopes],
            spend_cap=limits.spend_cap,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
        )
        audit.record(actor=acting_user, verb="api_key.created", target=key, at=at)
    return key, secret


def authenticate(raw: str, *, at: datetime) -> ApiKey | None:
    """Return the live key that `raw` is the secret of, else None."""
    if not raw.startswith(MARK) or len(raw) > 100:
        return None
    key = _LIVE.first(digest=_digest(raw), at=at)
    if key and (key.last_used_at is None or at - key.last_used_at > USE_NOTED_EVERY):
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=at)
    return key


def limit_key(*, key: ApiKey, limits: Limits, acting_user: User, at: datetime) -> None:
    """Change what a key may spend and ask for, from the next request on."""
    with transaction.atomic():
        key.spend_cap = limits.spend_cap
        key.requests_per_minute = limits.requests_per_minute
        key.tokens_per_minute = limits.tokens_per_minute
        key.save(update_fields=["spend_cap", "requests_per_minute", "tokens_per_minute"])
        audit.record(actor=acting_user, verb="api_key.limited", target=key, at=at)


def revoke_key(*, key: ApiKey, acting_user: User, at: datetime) -> None:
    with transaction.atomic():
        if ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=at):
            audit.record(actor=acting_user, verb="api_key.revoked", target=key, at=at)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
