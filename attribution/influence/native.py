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

# Products of the bits that are set are added up eight at a time; the score is twice that less all
# of them. A lane holds the sum of ``run`` bytes before it is widened, as many as fit 2**31.
SOURCE = """
#include <stdint.h>
#include <string.h>
typedef int32_t lanes __attribute__((vector_size(32)));

void sketch_scores(const uint8_t *codes, const int32_t *products,
                   int64_t rows, int64_t width, int64_t run, int64_t *out)
{
    const lanes bit = {128, 64, 32, 16, 8, 4, 2, 1};
    int64_t all = 0;
    for (int64_t k = 0; k < 8 * width; k++) all += products[k];
    for (int64_t row = 0; row < rows; row++) {
        const uint8_t *code = codes + row * width;
        int64_t set = 0;
        for (int64_t first = 0; first < width; first += run) {
            int64_t last = width - first < run ? width : first + run;
            lanes sum = {0};
            for (int64_t j = first; j < last; j++) {
                lanes product;
                memcpy(&product, products + 8 * j, sizeof product);
                sum += product & (((int32_t)code[j] & bit) != 0);
            }
            for (int lane = 0; lane < 8; lane++) set += sum[lane];
        }
        out[row] = 2 * set - all;
    }
}
"""
OPTIONS = ("-O3", "-march=native", "-shared", "-fPIC")


@cache
def kernel() -> Kernel | None:
    """``codes`` (rows, bytes) and ``products`` (8 x bytes,) to the sums of signed products (rows,).

    Products may be any but the least of 32 bits.
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
    function.argtypes = [pointer, pointer, size, size, size, pointer]

    def scores(codes: NDArray[np.uint8], products: NDArray[np.int32]) -> NDArray[np.int64]:
        codes = np.ascontiguousarray(codes)
        products = np.ascontiguousarray(products, dtype=np.int32)
        rows, width = codes.shape
        if products.shape != (8 * width,):
            raise ValueError(f"{width} bytes need {8 * width} products, not {products.shape}.")
        out = np.zeros(rows, dtype=np.int64)
        largest = int(np.abs(products).max(initial=1))
        run = max(1, (2**31 - 1) // max(1, largest))
        function(codes.ctypes.data, products.ctypes.data, rows, width, run, out.ctypes.data)
        return out

    return scores
