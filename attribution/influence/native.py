"""The loop over sketches in C, compiled when first needed; None where there is no compiler.

It gives the very integers of the portable loop in `scores`, which stays beside it and is what a
stranger verifies with. Source and library live in a folder that only this process sees and that
is gone once the library is loaded, so nobody can put another library in its place.
`OPENLEDGER_NATIVE=0` leaves it out.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Kernel = Callable[[NDArray[np.uint8], NDArray[np.int32]], NDArray[np.int64]]

# The bits of all products make planes, one for each binary place. What a code's set bits add up to
# is the number of bits that it has in common with each plane, times 2**place; the highest plane is
# that of the signs and counts negative. The score is twice that less all products. Eight planes go
# through a code at a time, which compilers turn into counts of 512 bits where there are such.
SOURCE = """
#include <stdint.h>
#define COUNT(k) n##k += (uint64_t)__builtin_popcountll(c & p[k * words + j])
static int64_t eight(const uint64_t *code, const uint64_t *p, int64_t words, int64_t first,
                     int64_t sign)
{
    uint64_t n0 = 0, n1 = 0, n2 = 0, n3 = 0, n4 = 0, n5 = 0, n6 = 0, n7 = 0;
    int64_t set = 0;
    for (int64_t j = 0; j < words; j++) {
        uint64_t c = code[j];
        COUNT(0); COUNT(1); COUNT(2); COUNT(3); COUNT(4); COUNT(5); COUNT(6); COUNT(7);
    }
    uint64_t n[8] = {n0, n1, n2, n3, n4, n5, n6, n7};
    for (int64_t k = 0; k < 8; k++) {
        int64_t part = (int64_t)n[k] * ((int64_t)1 << (first + k));
        set += first + k == sign ? -part : part;
    }
    return set;
}

void sketch_scores(const uint64_t *codes, const uint64_t *planes, int64_t rows, int64_t words,
                   int64_t eights, int64_t sign, int64_t all, int64_t *out)
{
    for (int64_t row = 0; row < rows; row++) {
        const uint64_t *code = codes + row * words;
        int64_t set = 0;
        for (int64_t first = 0; first < 8 * eights; first += 8)
            set += eight(code, planes + first * words, words, first, sign);
        out[row] = 2 * set - all;
    }
}
"""
OPTIONS = ("-O3", "-march=native", "-shared", "-fPIC")


@cache
def kernel() -> Kernel | None:
    """``codes`` (rows, bytes) and ``products`` (8 x bytes,) to the sums of signed products (rows,).

    Products may be any of 32 bits.
    """
    compiler = shutil.which("cc")
    if compiler is None or os.environ.get("OPENLEDGER_NATIVE") == "0":
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="openledger-native-") as folder:
            source, library = Path(folder) / "scores.c", Path(folder) / "scores.so"
            source.write_text(SOURCE)
            command = [compiler, *OPTIONS, "-o", str(library), str(source)]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            function = ctypes.CDLL(str(library)).sketch_scores
    except (OSError, subprocess.SubprocessError):
        return None
    function.restype = None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, pointer, size, size, size, size, size, pointer]

    def scores(codes: NDArray[np.uint8], products: NDArray[np.int32]) -> NDArray[np.int64]:
        rows, width = codes.shape
        if products.shape != (8 * width,):
            raise ValueError(f"{width} bytes need {8 * width} products, not {products.shape}.")
        planes, sign = bit_planes(products)
        if width % 8:
            codes = np.pad(codes, ((0, 0), (0, -width % 8)))
        codes = np.ascontiguousarray(codes)
        out = np.zeros(rows, dtype=np.int64)
        words, eights = codes.shape[1] // 8, len(planes) // 8
        every = int(products.sum(dtype=np.int64))
        function(
            codes.ctypes.data, planes.ctypes.data, rows, words, eights, sign, every, out.ctypes.data
        )
        return out

    return scores


def bit_planes(products: NDArray[np.int32]) -> tuple[NDArray[np.uint8], int]:
    """Products in two's complement, a row of packed bits for each binary place, and which place is
    the sign. Rows are filled up to whole words, and with empty ones to a multiple of eight."""
    largest = int(np.abs(products.astype(np.int64)).max(initial=0))
    sign = largest.bit_length()
    width = -(-len(products) // 64) * 8
    planes = np.zeros(((sign // 8 + 1) * 8, width), dtype=np.uint8)
    for place in range(sign + 1):
        packed = np.packbits((products >> min(place, 31)) & 1)
        planes[place, : len(packed)] = packed
    return planes, sign
