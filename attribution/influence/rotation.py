"""Sketched coordinates are mixed in small blocks before one bit of each is kept.

A whitened gradient has a few large coordinates among many small ones, and a bit tells both alike.
After a block of ``B`` coordinates of about equal strength has been turned by random signs and a
Walsh-Hadamard transform, all of them carry the same, nearly normal, part of it, and a bit tells
most of what a bit can. The dot product of two vectors that were both turned is ``B`` times theirs.

It is made of additions alone: an answer's integers stay integers (at most ``B`` times as large),
so anyone gets the same scores. The signs are the same for all indexes. What does not fill a last
block stays as it is, times ``sqrt(B)`` rounded to whole numbers, hence blocks are powers of four.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 256  # a 16-bit query, turned and weighted, stays within 32 bits
_SIGNS = b"openledger: signs of a sketch's coordinates"


def turn(rows: NDArray[Any], block: int) -> NDArray[Any]:
    """Turn the last axis, in the type of ``rows`` (int64 or float). A block of 1 changes nothing.

    Raises ValueError where ``block`` is no power of four.
    """
    check_block(block)
    if block == 1:
        return rows
    width = rows.shape[-1]
    whole = width - width % block
    turned: NDArray[Any] = rows * signs(width).astype(rows.dtype)
    turned[..., whole:] *= math.isqrt(block)
    # A block stands upright, so that even the first steps add long runs.
    shape = turned[..., :whole].shape
    blocks = np.ascontiguousarray(turned[..., :whole].reshape(-1, block).T)
    other = np.empty_like(blocks)
    step = 1
    while step < block:
        pairs, out = (each.reshape(block // (2 * step), 2, step, -1) for each in (blocks, other))
        np.add(pairs[:, 0], pairs[:, 1], out=out[:, 0])
        np.subtract(pairs[:, 0], pairs[:, 1], out=out[:, 1])
        blocks, other = other, blocks
        step *= 2
    turned[..., :whole] = blocks.T.reshape(shape)
    return turned


def usual_sizes(strength: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Each turned coordinate's root mean square, from those before (width,)."""
    check_block(block)
    whole = len(strength) - len(strength) % block
    found = strength.astype(np.float64)
    means = found[:whole].reshape(-1, block).mean(axis=1)
    found[:whole] = np.repeat(means, block)
    roots: NDArray[np.float64] = np.sqrt(found * block)
    return roots


def signs(width: int) -> NDArray[np.int8]:
    """1 or -1 for each coordinate, from SHAKE-256, most significant bit first."""
    stream = hashlib.shake_256(_SIGNS).digest((width + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8))[:width]
    return bits.astype(np.int8) * 2 - 1


def check_block(block: int) -> None:
    if not 1 <= block <= LARGEST or math.isqrt(block) ** 2 != block or block & (block - 1):
        raise ValueError(f"A block is a power of four up to {LARGEST}.")
