"""Who signs: a key from the environment on the local chain, an encrypted keystore file elsewhere.

Anything with an address and a `sign` is a signer; a remote key service is one more class.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ledger.chain.addresses import from_private_key
from ledger.chain.local import DEV_ADDRESSES, DEV_KEYS, LOCAL_CHAIN_ID

_recursion_limit = sys.getrecursionlimit()

from eth_account import Account  # noqa: E402

# See ledger.chain.client: the import lifts the limit for the whole process.
sys.setrecursionlimit(_recursion_limit)


class UnsafeKeyError(RuntimeError):
    """A key that everybody knows, or one in the open, on a chain where OPEN is worth something."""


@dataclass(frozen=True)
class Signed:
    """A signed transaction: its bytes, and the hash by which the chain will know it."""

    raw: bytes
    hash: str


class Signer(Protocol):
    @property
    def address(self) -> str: ...

    def sign(self, transaction: dict[str, Any]) -> Signed: ...


class KeySigner:
    """Signs with a private key in memory, for one chain."""

    def __init__(self, key: str, *, chain_id: int) -> None:
        self.address = from_private_key(key)
        if self.address in DEV_ADDRESSES and chain_id != LOCAL_CHAIN_ID:
            raise UnsafeKeyError(
                f"{self.address} is a development key that everybody knows; it is refused on chain "
                f"{chain_id}. Make a keystore file and name it in CHAIN_KEYSTORE."
            )
        self._key = key
        self._chain_id = chain_id

    def sign(self, transaction: dict[str, Any]) -> Signed:
        """Sign; raises UnsafeKeyError for a transaction of another chain."""
        if transaction.get("chainId") != self._chain_id:
            raise UnsafeKeyError(f"This signer signs for chain {self._chain_id} alone.")
        signed = Account.sign_transaction(transaction, self._key)
        return Signed(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())


def load_signer(
    *, chain_id: int, private_key: str = "", keystore: str = "", password: str = ""
) -> KeySigner:
    """The signer of this machine.

    Off the local chain only a keystore file will do. Raises UnsafeKeyError, OSError for a missing
    file, ValueError for a wrong password.
    """
    if keystore:
        content = json.loads(Path(keystore).read_text())
        return KeySigner("0x" + bytes(Account.decrypt(content, password)).hex(), chain_id=chain_id)
    if chain_id != LOCAL_CHAIN_ID:
        raise UnsafeKeyError(
            f"Chain {chain_id} is not the local one ({LOCAL_CHAIN_ID}): the key must come from an "
            "encrypted keystore file (CHAIN_KEYSTORE), never from the environment."
        )
    return KeySigner(private_key or DEV_KEYS[0], chain_id=chain_id)
