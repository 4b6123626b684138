"""Keys of servers elsewhere, sealed with the house's own secret before they are kept."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

PURPOSE = b"openledger replica key:"


class KeyLost(Exception):
    """The key was sealed with a SECRET_KEY that this process does not know."""


def seal(key: str) -> str:
    """What is kept of a key; "" for none."""
    return _box().encrypt(key.encode()).decode() if key else ""


def unseal(sealed: str) -> str:
    """Raises KeyLost."""
    if not sealed:
        return ""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise KeyLost("The key was kept under another SECRET_KEY. Enter it again.") from error


def _box() -> MultiFernet:
    known = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_derived(secret)) for secret in known])


def _derived(secret: str) -> bytes:
    return urlsafe_b64encode(sha256(PURPOSE + secret.encode()).digest())
