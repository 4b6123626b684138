"""From floats to the integers that are published.

Every scale is chosen so that a value cannot leave its integer type, whatever the record: a
record's vector is clipped to a known norm before, and no coordinate exceeds a norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attribution.influence import native, trellis
from attribution.influence.rotation import turn

VECTOR_MAX = 32_767
NORM_MAX = 65_535
CARRIED = 0.68  # of a row's length, what two coordinates a bit usually carry: the root of 0.46
WEIGHT_MAX = 15  # with an 8-bit answer, products then mostly have 16 binary places

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Query:
    """An answer's sketch: ``codes`` (width,) int16 within ±127 or ±32767; the whitened gradient
    is about ``codes * step``."""

    codes: NDArray[np.int16]
    step: float
    bits: int

    def to_bytes(self) -> bytes:
        """One or two bytes a coordinate, little-endian."""
        return self.codes.astype("<i1" if self.bits == 8 else "<i2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, *, step: float, bits: int) -> Query:
        """Raises ValueError where the bytes are no whole number of coordinates."""
        codes = np.frombuffer(data, dtype="<i1" if bits == 8 else "<i2").astype(np.int16)
        return cls(codes, step, bits)


def clip_norms(vectors: Floats, clip: float) -> Floats:
    """Scale rows (records, width) down to norm ``clip``; returns the factors (records,)."""
    norms = np.sqrt(np.einsum("rw,rw->r", vectors, vectors, dtype=np.float64))
    factors = np.minimum(1.0, clip / np.maximum(norms, np.finfo(np.float64).tiny))
    clipped: Floats = factors.astype(np.float32)
    return clipped


def quantise_vectors(vectors: Floats, clip: float) -> NDArray[np.int16]:
    """Rows of norm at most ``clip`` as int16: ``clip`` itself would be VECTOR_MAX."""
    scaled = np.rint(vectors.astype(np.float64) * (VECTOR_MAX / clip))
    return np.clip(scaled, -VECTOR_MAX, VECTOR_MAX).astype(np.int16)


def quantise_weights(magnitudes: Doubles) -> NDArray[np.uint8]:
    """How much each sketched coordinate counts: its usual size, 1 to 15."""
    top = float(magnitudes.max(initial=0.0)) or 1.0
    return np.clip(np.rint(magnitudes / top * WEIGHT_MAX), 1, WEIGHT_MAX).astype(np.uint8)


def sketch(
    vectors: Floats,
    weights: NDArray[np.uint8],
    clip: float,
    block: int = 1,
    rate: int = 1,
    twice: int = 0,
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """One bit for ``rate`` coordinates (of one: set where it is not negative) and a norm a row.

    Rows are turned in blocks of ``block`` before, which makes them ``sqrt(block)`` times as long.
    The norm is the least-squares factor of ``norm * weight * sign`` to the row; by Cauchy-Schwarz
    it is at most ``sqrt(block) * clip / |weights|``, which is NORM_MAX. The first ``twice``
    coordinates have two signs, which are added; the norm is cut to NORM_MAX there, which only a row
    far from any that was seen reaches.
    Shapes: vectors (records, width) -> codes (records, trellis.code_bytes), norms (records,).
    """
    vectors = turn(vectors, block)
    clip *= math.sqrt(block)
    weighted = vectors.astype(np.float64) * weights
    length = float(np.linalg.norm(weights.astype(np.float64)))
    if twice:
        codes, projected = _told_twice(vectors, weighted, weights, length, rate, twice)
    else:
        codes = trellis.choose(weighted, rate, native.paths())
        signs = np.unpackbits(trellis.spread(codes, rate), axis=1, count=vectors.shape[1])
        projected = np.where(signs, weighted, -weighted).sum(axis=1) / length
    norms = np.clip(np.rint(projected / clip * NORM_MAX), 0, NORM_MAX)
    return codes, norms.astype(np.uint16)


def _told_twice(
    vectors: Floats,
    weighted: Doubles,
    weights: NDArray[np.uint8],
    length: float,
    rate: int,
    twice: int,
) -> tuple[NDArray[np.uint8], Doubles]:
    """Codes, and the least-squares factor times ``length``, where the first have two signs."""
    usual = np.sqrt(np.einsum("rw,rw->r", vectors, vectors, dtype=np.float64)) * (CARRIED / length)
    squares = np.square(weights.astype(np.float64))
    codes = trellis.choose(weighted, rate, native.paths(), usual[:, None] * squares[:twice])
    told = trellis.values(codes, vectors.shape[1], rate, twice)
    size = np.square(told).astype(np.float64) @ squares
    return codes, (weighted * told).sum(axis=1) * (length / np.maximum(size, 1.0))


def quantise_query(vector: Floats, bits: int) -> Query:
    """An answer's whitened gradient (width,) as integers; a zero vector stays zero."""
    top = 127 if bits == 8 else VECTOR_MAX
    largest = float(np.abs(vector).max(initial=0.0))
    step = largest / top if largest > 0 else 1.0
    codes = np.clip(np.rint(vector.astype(np.float64) / step), -top, top).astype(np.int16)
    return Query(codes, step, bits)
