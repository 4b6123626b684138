"""Which key this process was given, and whether it may be used on this chain. No web3, no secrets.

`manage.py check` and `doctor` ask it, and the worker of the queue `chain` before it starts: what
signs later refuses an unsafe key as well (`ledger.chain.signers`), but a person should read it
before the first payment waits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings

from ledger.chain.addresses import from_private_key
from ledger.chain.local import DEV_ADDRESSES
from ledger.chain.signers import keystore_address

SAFE_KEY = (
    "Put the key into an encrypted keystore file (CHAIN_KEYSTORE) or a key service (CHAIN_KMS), "
    "see docs/chain.md."
)


@dataclass(frozen=True)
class KeyFinding:
    """What there is, in words; `problem` is "" where it may be used, else `code` names it."""

    fact: str
    problem: str = ""
    code: str = ""


def look_at_key(environ: Mapping[str, str] | None = None) -> KeyFinding:
    """The key of this process; asks no key service and needs no password."""
    environ = os.environ if environ is None else environ
    if settings.CHAIN_KMS:
        return KeyFinding(f"in a key service, {settings.CHAIN_KMS.split(':')[0]}")
    if settings.CHAIN_KEYSTORE:
        return _keystore(settings.CHAIN_KEYSTORE)
    key = environ.get("CHAIN_PRIVATE_KEY", "")
    if settings.CHAIN_IS_LOCAL:
        return KeyFinding("from the environment" if key else "a development key, local chain only")
    if not key:
        return KeyFinding("none here; only the worker of the queue `chain` needs one")
    return _in_the_open(key)


def _in_the_open(key: str) -> KeyFinding:
    try:
        known = from_private_key(key) in DEV_ADDRESSES
    except ValueError:
        known = False
    if known:
        return _development("CHAIN_PRIVATE_KEY")
    return KeyFinding(
        "in the environment",
        f"CHAIN_PRIVATE_KEY is a key in the open, and chain {settings.CHAIN_ID} is not the local "
        "one.",
        "ledger.E002",
    )


def _keystore(path: str) -> KeyFinding:
    try:
        address = keystore_address(path)
    except (OSError, ValueError) as error:
        return KeyFinding(path, f"CHAIN_KEYSTORE cannot be read: {error}", "ledger.E003")
    known = address.lower() in {one.lower() for one in DEV_ADDRESSES}
    if known and not settings.CHAIN_IS_LOCAL:
        return _development("CHAIN_KEYSTORE")
    return KeyFinding(f"keystore {path}" + (f", {address}" if address else ""))


def _development(setting: str) -> KeyFinding:
    return KeyFinding(
        "a development key",
        f"{setting} holds a development key that everybody knows, and chain {settings.CHAIN_ID} is "
        "not the local one: whatever it holds there can be taken by anyone.",
        "ledger.E001",
    )
