"""Addresses, amounts and hashes as columns of bytes: what a tree of a million leaves is made of.

One row of (n, 20) bytes is an address, of (n, 16) a number of wei below 2^128, of (n, 32) a hash.
A million addresses as Python strings are 90 MB and a second to hash one by one; as columns they
are 20 MB.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from ledger.chain.addresses import to_checksum
from ledger.chain.keccak_many import Bytes, keccak256_many

ADDRESS_TEXT = 42

_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_NO_DIGIT = 255
_VALUE_OF = np.full(256, _NO_DIGIT, dtype=np.uint8)
for _value, _digits in enumerate(zip("0123456789abcdef", "0123456789ABCDEF", strict=True)):
    for _digit in _digits:
        _VALUE_OF[ord(_digit)] = _value


def parse_addresses(texts: list[str]) -> Bytes:
    """The (n, 20) bytes of addresses as text. Raises ValueError for the first that is none, or
    has a wrong checksum."""
    return spell_addresses(texts)[0]


def spell_addresses(texts: list[str]) -> tuple[Bytes, Bytes]:
    """The same, and their (n, 42) letters with checksums, which checking them has made."""
    joined = "".join(texts).encode("ascii", "replace")
    if any(len(text) != ADDRESS_TEXT for text in texts):
        _refuse(texts)
    rows = np.frombuffer(joined, dtype=np.uint8).reshape(-1, ADDRESS_TEXT)
    digits = _VALUE_OF[rows[:, 2:]]
    if (digits == _NO_DIGIT).any() or (rows[:, 0] != ord("0")).any():
        _refuse(texts)
    addresses: Bytes = ((digits[:, 0::2] << 4) | digits[:, 1::2]).astype(np.uint8, copy=False)
    spelled = address_text(addresses)
    odd = (spelled != rows).any(axis=1)
    # Other than the checksummed spelling: all of one case is one as well, and the rest is refused.
    for number in np.flatnonzero(odd):
        to_checksum(texts[number])
    return addresses, spelled


def address_text(addresses: Bytes) -> Bytes:
    """The (n, 42) ASCII letters of addresses with EIP-55 checksums."""
    count = len(addresses)
    nibbles = _nibbles(addresses)
    text = np.empty((count, ADDRESS_TEXT), dtype=np.uint8)
    text[:, 0], text[:, 1] = ord("0"), ord("x")
    digits = text[:, 2:]
    digits[:] = _HEX[nibbles]
    hashed = _nibbles(keccak256_many(digits)[:, :20])
    digits[(hashed >= 8) & (nibbles >= 10)] -= ord("a") - ord("A")
    return text


def amounts_of(column: Bytes) -> list[int]:
    """A column of big-endian amounts as numbers of wei."""
    raw, width = column.tobytes(), column.shape[1]
    return [int.from_bytes(raw[start : start + width]) for start in range(0, len(raw), width)]


def order(column: Bytes) -> npt.NDArray[np.intp]:
    """The numbers of the rows in ascending order of their bytes; equal rows keep theirs."""
    return np.lexsort(tuple(reversed(_words(column))))


def equals_next(column: Bytes) -> npt.NDArray[np.bool_]:
    """Of a sorted column: whether each row but the last is the same as the one after it."""
    return cast("npt.NDArray[np.bool_]", (column[:-1] == column[1:]).all(axis=1))


def sort_pairs(pairs: Bytes) -> None:
    """Put the smaller hash of each (n, 2, 32) pair first, in place."""
    left, right = _words(pairs[:, 0]), _words(pairs[:, 1])
    greater = np.zeros(len(pairs), dtype=bool)
    # From the last word to the first: an earlier word decides, whatever the later ones say.
    for a, b in zip(reversed(left), reversed(right), strict=True):
        greater = (a > b) | ((a == b) & greater)
    pairs[greater] = pairs[greater][:, ::-1]


def _words(column: Bytes) -> list[npt.NDArray[np.uint64]]:
    """The rows as big-endian words of 8 bytes (the last filled with zeros), one array a word."""
    count, width = column.shape
    padded = np.zeros((count, -(-width // 8) * 8), dtype=np.uint8)
    padded[:, :width] = column
    return list(padded.view(">u8").astype(np.uint64).T)


def _nibbles(rows: Bytes) -> Bytes:
    nibbles = np.empty((len(rows), 2 * rows.shape[1]), dtype=np.uint8)
    nibbles[:, 0::2] = rows >> 4
    nibbles[:, 1::2] = rows & 15
    return nibbles


def _refuse(texts: list[str]) -> None:
    for text in texts:
        to_checksum(text)
