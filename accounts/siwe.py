"""Sign-in with Ethereum (EIP-4361): the server writes the text, keeps it, and believes only it.

Nothing that the browser sends is parsed as a message: it returns the challenge's id and a
signature. Every attempt spends the challenge, right or wrong, in a transaction of its own.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings

from accounts.ethereum import EthereumError, recover, to_checksum
from accounts.models import User
from accounts.models.challenge import SignInChallenge

LIFETIME = timedelta(minutes=5)
KEPT_AFTER_EXPIRY = timedelta(days=1)
STATEMENTS = {
    SignInChallenge.Purpose.SIGN_IN: "Sign in to OpenLedger. This costs nothing.",
    SignInChallenge.Purpose.LINK: "Link this wallet to your OpenLedger account. "
    "What you earn can then be claimed by it. This costs nothing.",
}


class SignInError(Exception):
    """Why a wallet was not let in: `code` for machines, the text for the person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def issue(
    *,
    address: str,
    chain_id: int,
    domain: str,
    purpose: SignInChallenge.Purpose,
    user: User | None,
    at: datetime,
) -> SignInChallenge:
    """Write the text that the wallet at `address` is to sign.

    Raises SignInError for a malformed address or another chain than ours.
    """
    if chain_id != settings.CHAIN_ID:
        raise SignInError(
            "wrong_chain",
            f"Your wallet is on chain {chain_id}. Switch it to chain {settings.CHAIN_ID}, "
            "then try again.",
        )
    try:
        checksummed = to_checksum(address)
    except EthereumError as error:
        raise SignInError("bad_address", str(error)) from error
    challenge = SignInChallenge(
        purpose=purpose,
        user=user,
        nonce=secrets.token_hex(16),
        domain=domain,
        chain_id=chain_id,
        address=checksummed,
        issued_at=at,
        expires_at=at + LIFETIME,
    )
    challenge.text = render(challenge)
    challenge.save(force_insert=True)
    return challenge


def render(challenge: SignInChallenge) -> str:
    """The message in the exact layout of EIP-4361."""
    scheme = "https" if settings.SECURE else "http"
    statement = STATEMENTS[SignInChallenge.Purpose(challenge.purpose)]
    return (
        f"{challenge.domain} wants you to sign in with your Ethereum account:\n"
        f"{challenge.address}\n"
        "\n"
        f"{statement}\n"
        "\n"
        f"URI: {scheme}://{challenge.domain}\n"
        "Version: 1\n"
        f"Chain ID: {challenge.chain_id}\n"
        f"Nonce: {challenge.nonce}\n"
        f"Issued At: {_rfc3339(challenge.issued_at)}\n"
        f"Expiration Time: {_rfc3339(challenge.expires_at)}"
    )


def spend(
    *,
    challenge_id: UUID,
    signature: str,
    domain: str,
    purpose: SignInChallenge.Purpose,
    user: User | None,
    at: datetime,
) -> str:
    """Use up the challenge; the address that has proven itself.

    Must not run in a transaction that the caller may roll back: a failed attempt stays spent.
    Raises SignInError.
    """
    challenge = SignInChallenge.objects.filter(pk=challenge_id).first()
    fresh = SignInChallenge.objects.filter(pk=challenge_id, spent_at__isnull=True)
    if challenge is None or not fresh.update(spent_at=at):
        raise SignInError("spent", "This request to sign was used already. Start again.")
    if challenge.purpose != purpose or challenge.user_id != (user.pk if user else None):
        raise SignInError("wrong_purpose", "This request to sign was for something else.")
    if at >= challenge.expires_at:
        raise SignInError("expired", "This request to sign has expired. Start again.")
    if challenge.domain != domain:
        raise SignInError("wrong_domain", "This request to sign was made for another address.")
    if challenge.chain_id != settings.CHAIN_ID:
        raise SignInError("wrong_chain", "This request to sign was made for another chain.")
    try:
        signer = recover(challenge.text, signature)
    except EthereumError as error:
        raise SignInError("bad_signature", str(error)) from error
    if signer != challenge.address:
        raise SignInError(
            "wrong_address", "Another account signed than the one that was asked. Start again."
        )
    return signer


def forget_expired(*, at: datetime) -> int:
    """Delete challenges that nobody can use any more."""
    old = SignInChallenge.objects.filter(expires_at__lt=at - KEPT_AFTER_EXPIRY)
    deleted, _ = old.delete()
    return deleted


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
