"""Who signs: a key from the environment on the local chain, else an encrypted keystore file or a
key service that never gives its key away (ledger.chain.keyservices).

A signer has an address and signs 32 bytes; what a transaction is stands in `sign`.
"""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import coincurve

from ledger.chain.addresses import from_private_key
from ledger.chain.keccak import keccak256
from ledger.chain.local import DEV_ADDRESSES, DEV_KEYS, LOCAL_CHAIN_ID
from ledger.chain.transactions import Signature, digest, fields, signed_bytes


class UnsafeKeyError(RuntimeError):
    """A key that everybody knows, or one in the open, on a chain where OPEN is worth something."""


class SigningError(RuntimeError):
    """The key did not sign: a key service that is down, or that signed with another key."""


@dataclass(frozen=True)
class Signed:
    """A signed transaction: its bytes, and the hash by which the chain will know it."""

    raw: bytes
    hash: str


class Signer(Protocol):
    @property
    def address(self) -> str: ...

    def sign(self, transaction: dict[str, Any]) -> Signed: ...


class DigestSigner(ABC):
    """One address on one chain. What differs is only where the 32 bytes are signed."""

    def __init__(self, address: str, *, chain_id: int) -> None:
        if address in DEV_ADDRESSES and chain_id != LOCAL_CHAIN_ID:
            raise UnsafeKeyError(
                f"{address} is a development key that everybody knows; it is refused on chain "
                f"{chain_id}. Make a keystore file and name it in CHAIN_KEYSTORE."
            )
        self.address = address
        self.chain_id = chain_id

    @abstractmethod
    def sign_digest(self, digest: bytes) -> Signature:
        """Sign 32 bytes. Raises SigningError."""

    def sign(self, transaction: dict[str, Any]) -> Signed:
        """Sign an EIP-1559 transaction; raises UnsafeKeyError for one of another chain,
        ValueError for what is no such transaction, SigningError."""
        if transaction.get("chainId") != self.chain_id:
            raise UnsafeKeyError(f"This signer signs for chain {self.chain_id} alone.")
        unsigned = fields(transaction)
        raw = signed_bytes(unsigned, self.sign_digest(digest(unsigned)))
        return Signed(raw, "0x" + keccak256(raw).hex())


class KeySigner(DigestSigner):
    """Signs with a private key in memory, for one chain."""

    def __init__(self, key: str, *, chain_id: int) -> None:
        super().__init__(from_private_key(key), chain_id=chain_id)
        self._key = coincurve.PrivateKey(bytes.fromhex(key.removeprefix("0x")))

    def sign_digest(self, digest: bytes) -> Signature:
        # Deterministic (RFC 6979), and libsecp256k1 gives the low s that EIP-2 asks for.
        raw = self._key.sign_recoverable(digest, hasher=None)
        return Signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:64]), raw[64])


def load_signer(
    *, chain_id: int, private_key: str = "", keystore: str = "", password: str = ""
) -> KeySigner:
    """The signer of this machine.

    Off the local chain only a keystore file will do. Raises UnsafeKeyError, OSError for a missing
    file, ValueError for a wrong password.
    """
    if keystore:
        content = json.loads(Path(keystore).read_text())
        return KeySigner("0x" + _decrypted(content, password).hex(), chain_id=chain_id)
    if chain_id != LOCAL_CHAIN_ID:
        raise UnsafeKeyError(
            f"Chain {chain_id} is not the local one ({LOCAL_CHAIN_ID}): the key must come from an "
            "encrypted keystore file (CHAIN_KEYSTORE) or a key service (CHAIN_KMS), never from "
            "the environment."
        )
    return KeySigner(private_key or DEV_KEYS[0], chain_id=chain_id)


def keystore_address(keystore: str) -> str:
    """The address that a keystore file names for itself, "" where it does not; no password needed.

    Raises OSError, ValueError for what is no keystore file.
    """
    content = json.loads(Path(keystore).read_text())
    if not isinstance(content, dict):
        raise ValueError(f"{keystore} is no keystore file.")
    named = str(content.get("address") or "")
    return named if named.startswith("0x") or not named else f"0x{named}"


def _decrypted(content: Any, password: str) -> bytes:
    # eth_account lifts the recursion limit of the whole process (see ledger.chain.client), and
    # only a keystore file has need of it.
    limit = sys.getrecursionlimit()
    from eth_account import Account

    sys.setrecursionlimit(limit)
    return bytes(Account.decrypt(content, password))
