"""Keys that never leave a key service: AWS KMS, Google Cloud KMS, and what speaks like them.

A service signs 32 bytes with a secp256k1 key and answers in DER; here that becomes the low s and
the recovery id that the chain wants. A service is anything with `public_key` and `sign`.
Sources: SEC 1 (DER of ECDSA), RFC 5480 (SubjectPublicKeyInfo), EIP-2, the AWS KMS and Cloud KMS
API references (ECC_SECG_P256K1, EC_SIGN_SECP256K1_SHA256).
"""

from __future__ import annotations

import base64
from typing import Any, Protocol

import coincurve
import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from ledger.chain.addresses import from_bytes
from ledger.chain.keccak import keccak256
from ledger.chain.signers import DigestSigner, SigningError
from ledger.chain.transactions import Signature

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TIMEOUT_SECONDS = 10.0
# A signature that was asked for twice is another one of the same digest: harmless.
TRIES = 3


class KeyService(Protocol):
    """One key. Both raise SigningError where the service does not answer, or not with what it
    should."""

    def public_key(self) -> bytes:
        """The uncompressed point: 0x04, x, y (65 bytes)."""

    def sign(self, digest: bytes) -> bytes:
        """The DER of an ECDSA signature over exactly these 32 bytes."""


class RemoteSigner(DigestSigner):
    """Signs by a key service, whose public key says which address it is."""

    def __init__(self, service: KeyService, *, chain_id: int) -> None:
        self._service = service
        self._point = service.public_key()
        super().__init__(from_bytes(keccak256(self._point[1:])[12:]), chain_id=chain_id)

    def sign_digest(self, digest: bytes) -> Signature:
        return recoverable(self._service.sign(digest), digest, self._point)


def recoverable(der: bytes, digest: bytes, point: bytes) -> Signature:
    """A DER signature of `digest` with the low s, and the parity that recovers `point`.

    Raises SigningError where it is no signature of that digest by that key.
    """
    try:
        r, s = decode_dss_signature(der)
    except ValueError as error:
        raise SigningError(f"The key service gave no signature: {error}") from error
    if not 0 < r < CURVE_ORDER or not 0 < s < CURVE_ORDER:
        raise SigningError("The key service gave numbers that are off the curve.")
    s = min(s, CURVE_ORDER - s)
    compact = r.to_bytes(32) + s.to_bytes(32)
    for parity in (0, 1):
        try:
            found = coincurve.PublicKey.from_signature_and_message(
                compact + bytes([parity]), digest, hasher=None
            )
        except Exception:  # coincurve raises a bare Exception where no point belongs to it
            continue
        if found.format(compressed=False) == point:
            return Signature(r, s, parity)
    raise SigningError("The key service signed with another key, or something else.")


class GoogleKeyService:
    """Cloud KMS's `publicKey` and `asymmetricSign`, or what speaks them, at `url`/`key`.

    `token` is sent as a bearer token: short-lived, from the machine's own identity.
    """

    def __init__(
        self, url: str, key: str, *, token: str = "", client: httpx.Client | None = None
    ) -> None:
        self._base = f"{url.rstrip('/')}/{key.strip('/')}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = client or httpx.Client(timeout=TIMEOUT_SECONDS)
        self._headers = headers

    def public_key(self) -> bytes:
        return point_of(pem=str(self._ask("GET", "/publicKey").get("pem", "")))

    def sign(self, digest: bytes) -> bytes:
        body = {"digest": {"sha256": base64.b64encode(digest).decode()}}
        return _decoded(self._ask("POST", ":asymmetricSign", body).get("signature"))

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        problem: Exception | None = None
        for _ in range(TRIES):
            try:
                answer = self._client.request(
                    method, self._base + path, json=body, headers=self._headers
                )
                if answer.status_code < 500:
                    break
                problem = SigningError(f"it answers {answer.status_code}")
            except httpx.HTTPError as error:
                problem = error
        else:
            raise SigningError(f"The key service does not answer: {problem}") from problem
        return _object(answer)


class AwsKeyService:
    """AWS KMS by boto3's client (`boto3.client("kms")`, from the `[prod]` group), handed in."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key

    def public_key(self) -> bytes:
        return point_of(der=self._ask("get_public_key", "PublicKey", KeyId=self._key))

    def sign(self, digest: bytes) -> bytes:
        return self._ask(
            "sign", "Signature", KeyId=self._key, Message=digest, MessageType="DIGEST",
            SigningAlgorithm="ECDSA_SHA_256",
        )  # fmt: skip

    def _ask(self, function: str, wanted: str, **fields: Any) -> bytes:
        try:
            answer: dict[str, Any] = getattr(self._client, function)(**fields)
        except Exception as error:  # botocore makes its exceptions at run time
            raise SigningError(f"The key service did not {function}: {error}") from error
        found = answer.get(wanted)
        # What is no JSON of the service's comes back from botocore as an empty answer.
        if not isinstance(found, bytes):
            raise SigningError(f"The key service gave no {wanted}.")
        return found


def open_service(name: str, *, token: str = "") -> KeyService:
    """The service that `aws:KEY`, `gcp:projects/…/cryptoKeyVersions/1` or `https://host/KEY` names.

    Raises ValueError for anything else, ImportError where boto3 is not installed.
    """
    kind, _, key = name.partition(":")
    if kind == "aws" and key:
        import boto3

        return AwsKeyService(boto3.client("kms"), key)
    if kind == "gcp" and key:
        return GoogleKeyService("https://cloudkms.googleapis.com/v1", key, token=token)
    if kind in ("http", "https") and key.startswith("//"):
        base, _, path = name.rpartition("/keys/")
        if base:
            return GoogleKeyService(base, f"keys/{path}", token=token)
    raise ValueError(
        f"{name!r} names no key service: write aws:KEY, gcp:projects/…/cryptoKeyVersions/1 or "
        "https://HOST/keys/NAME."
    )


def point_of(*, der: bytes = b"", pem: str = "") -> bytes:
    """The uncompressed point of a public key. Raises SigningError for a key of another curve."""
    try:
        key = load_pem_public_key(pem.encode()) if pem else load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningError(f"The key service gave no public key: {error}") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256K1):
        raise SigningError("The key in the key service is not on secp256k1; make another one.")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError as error:
        raise SigningError("The key service gave no JSON.") from error
    if answer.status_code != httpx.codes.OK or not isinstance(content, dict):
        raise SigningError(f"The key service refused ({answer.status_code}): {answer.text[:200]}")
    return content


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(str(text or ""), validate=True)
    except ValueError as error:
        raise SigningError("The key service gave no base64.") from error
