"""The loops over sketches in C, compiled when first needed; None where there is no compiler.

They give the very integers of the portable loops in `scores` and `trellis`, which stay beside them
and are what a stranger verifies with. Source and library live in a folder that only this process
sees and that is gone once the library is loaded, so nobody can put another library in its place.
`OPENLEDGER_NATIVE=0` leaves them out.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attribution.influence import trellis

Reader = Callable[[NDArray[np.uint8]], NDArray[np.int64]]


class Kernel(Protocol):
    def __call__(
        self, codes: NDArray[np.uint8], products: NDArray[np.int32], rate: int = 1
    ) -> NDArray[np.int64]: ...


# The bits of all products make planes, one for each binary place. What a code's set bits add up to
# is the number of bits that it has in common with each plane, times 2**place; the highest plane is
# that of the signs and counts negative. The score is twice that less all products. Eight planes go
# through a code at a time, which compilers turn into counts of many words where there are such.
# Before that, bits that tell several coordinates are spread to their parities (`trellis`): in a
# word whose first bit is its highest, the bit of three steps ago is a shift by three.
SOURCE = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
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

#define AGO(d) (d ? now[j] >> d | before[j] << (64 - d) : now[j])
static void spread(const uint64_t *code, uint64_t *now, uint64_t *before, uint64_t *out,
                   int64_t words, int64_t rate)
{
    for (int64_t j = 0; j < words; j++) now[j] = __builtin_bswap64(code[j]);
    for (int64_t j = 0; j < words; j++) before[j] = j % (SEGMENT / 64) ? now[j - 1] : 0;
    if (rate == 2) PARITIES_2
    if (rate == 3) PARITIES_3
}

int64_t sketch_scores(const uint64_t *codes, const uint64_t *planes, int64_t rows, int64_t words,
                      int64_t rate, int64_t eights, int64_t sign, int64_t all, int64_t *out)
{
    int64_t bits = words;
    uint64_t *room = malloc((2 + rate) * words * sizeof(uint64_t));
    words *= rate;
    /* Read again for each row: where they begin with a line of the cache, no read takes two. */
    size_t size = (8 * eights * words * sizeof(uint64_t) + 63) / 64 * 64;
    uint64_t *lines = aligned_alloc(64, size ? size : 64);
    if (!room || !lines) {
        free(room);
        free(lines);
        return 0;
    }
    memcpy(lines, planes, 8 * eights * words * sizeof(uint64_t));
    for (int64_t row = 0; row < rows; row++) {
        const uint64_t *code = codes + row * bits;
        int64_t set = 0;
        if (rate > 1) {
            spread(code, room, room + bits, room + 2 * bits, bits, rate);
            code = room + 2 * bits;
        }
        for (int64_t first = 0; first < 8 * eights; first += 8)
            set += eight(code, lines + first * words, words, first, sign);
        out[row] = 2 * set - all;
    }
    free(room);
    free(lines);
    return 1;
}

/* `bit_planes` for whole words: eight products at a time, of which each byte is an 8 x 8 square of
   bits that is turned over (Warren, Hacker's Delight, 7-3). */
void sketch_planes(const uint32_t *products, int64_t count, int64_t sign, uint8_t *planes)
{
    int64_t width = count / 8;
    for (int64_t first = 0; first <= sign; first += 8) {
        int64_t last = sign - first < 7 ? sign - first : 7;
        for (int64_t j = 0; j < width; j++) {
            uint64_t x = 0, t;
            for (int i = 0; i < 8; i++) x = x << 8 | (products[8 * j + i] >> first & 0xff);
            t = (x ^ x >> 7) & 0x00aa00aa00aa00aaull, x ^= t ^ t << 7;
            t = (x ^ x >> 14) & 0x0000cccc0000ccccull, x ^= t ^ t << 14;
            t = (x ^ x >> 28) & 0x00000000f0f0f0f0ull, x ^= t ^ t << 28;
            for (int64_t k = 0; k <= last; k++) planes[(first + k) * width + j] = x >> 8 * k & 0xff;
        }
    }
}

void sketch_paths(const int32_t *metrics, const int32_t *costs, const int32_t *signs,
                  int64_t rows, int64_t rate, uint8_t *taken, uint8_t *out)
{
    int32_t one[2 * HALF], two[2 * HALF], gain[HALF], alike[HALF];
    for (int s = 0; s < HALF; s++) alike[s] = signs[s] * signs[HALF + s];
    for (int64_t row = 0; row < rows; row++) {
        int32_t *reached = one, *next = two;
        for (int s = 0; s < 2 * HALF; s++) reached[s] = s ? UNREACHED : 0;
        for (int step = 0; step < SEGMENT; step++) {
            memset(gain, 0, sizeof gain);
            for (int64_t i = 0; i < rate; i++) {
                int32_t metric = metrics[(row * rate + i) * SEGMENT + step];
                for (int s = 0; s < HALF; s++) gain[s] += signs[i * HALF + s] * metric;
            }
            int32_t cost = costs ? costs[row * SEGMENT + step] : 0;
            uint8_t *took = taken + step * 2 * HALF;
            for (int s = 0; s < HALF; s++) {
                int32_t even = reached[2 * s], odd = reached[2 * s + 1], g = gain[s];
                int32_t a = even + g, b = odd - g, c = even - g, d = odd + g;
                took[s] = b > a;
                next[s] = (b > a ? b : a) - cost * alike[s];
                took[s + HALF] = d > c;
                next[s + HALF] = (d > c ? d : c) - cost * alike[s];
            }
            int32_t *swap = reached;
            reached = next;
            next = swap;
        }
        int state = 0;
        for (int s = 1; s < 2 * HALF; s++)
            if (reached[s] > reached[state]) state = s;
        for (int step = SEGMENT - 1; step >= 0; step--) {
            out[row * SEGMENT + step] = state >= HALF;
            state = (state << 1 | taken[step * 2 * HALF + state]) & (2 * HALF - 1);
        }
    }
}
"""
OPTIONS = ("-O3", "-march=native", "-shared", "-fPIC")
# Counts of 256 bits pass a seventh faster than those of 512 (AMD Zen 4).
IF_X86 = ("-mprefer-vector-width=256",) if platform.machine() in ("x86_64", "AMD64") else ()


def kernel() -> Kernel | None:
    """``codes`` (rows, bytes) and ``products`` (8 x rate x bytes,) to the sums of signed products
    (rows,). Products may be any of 32 bits; a bit of a code tells ``rate`` signs."""
    library = _library()
    return partial(_scores, library) if library else None


def reader(products: NDArray[np.int32], rate: int = 1) -> Reader | None:
    """The kernel for one answer, which many blocks of codes are then handed to."""
    library = _library()
    return _reader(library, products, rate) if library else None


def paths() -> trellis.Choose | None:
    """`trellis.paths` in C."""
    library = _library()
    return partial(_paths, library) if library else None


@cache
def _library() -> ctypes.CDLL | None:
    compiler = shutil.which("cc")
    # The words of a code are turned as those of a little-endian machine are.
    is_left_out = os.environ.get("OPENLEDGER_NATIVE") == "0" or sys.byteorder != "little"
    if compiler is None or is_left_out:
        return None
    names = ("HALF", "SEGMENT", "UNREACHED")
    defined = [f"#define {name} ({getattr(trellis, name)})" for name in names]
    defined += [f"#define PARITIES_{rate} {_parities(rate)}" for rate in (2, 3)]
    try:
        with tempfile.TemporaryDirectory(prefix="openledger-native-") as folder:
            source, compiled = Path(folder) / "scores.c", Path(folder) / "scores.so"
            source.write_text("\n".join([*defined, SOURCE]))
            command = [compiler, *OPTIONS, *IF_X86, "-o", str(compiled), str(source)]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            library = ctypes.CDLL(str(compiled))
    except (OSError, subprocess.SubprocessError):
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.sketch_scores.restype = size
    library.sketch_scores.argtypes = [pointer, pointer, *[size] * 6, pointer]
    library.sketch_planes.restype = None
    library.sketch_planes.argtypes = [pointer, size, size, pointer]
    library.sketch_paths.restype = None
    library.sketch_paths.argtypes = [*[pointer] * 3, size, size, pointer, pointer]
    return library


def _parities(rate: int) -> str:
    """C that writes each parity of the spread words, one part after the other."""
    lines = []
    for part, generator in enumerate(trellis.GENERATORS[rate]):
        terms = " ^ ".join(f"AGO({ago})" for ago in trellis.delays(generator))
        loop = "for (int64_t j = 0; j < words; j++)"
        lines.append(f"{loop} out[{part} * words + j] = __builtin_bswap64({terms});")
    return "{ " + " ".join(lines) + " }"


def _scores(
    library: ctypes.CDLL, codes: NDArray[np.uint8], products: NDArray[np.int32], rate: int = 1
) -> NDArray[np.int64]:
    return _reader(library, products, rate)(codes)


def _reader(library: ctypes.CDLL, products: NDArray[np.int32], rate: int) -> Reader:
    width = len(products) // (8 * rate)
    parts = products.reshape(rate, 8 * width)
    planes, sign = _planes(library, np.pad(parts, ((0, 0), (0, -8 * width % 64))).reshape(-1))
    words, eights = -(-width // 8), len(planes) // 8
    every = int(products.sum(dtype=np.int64))

    def read(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
        if codes.shape[1] != width:
            raise ValueError(f"{width} bytes are scored, not {codes.shape[1]}.")
        codes = np.pad(codes, ((0, 0), (0, -width % 8))) if width % 8 else codes
        codes = np.ascontiguousarray(codes)
        out = np.zeros(len(codes), dtype=np.int64)
        done = library.sketch_scores(
            codes.ctypes.data, planes.ctypes.data, len(codes), words, rate, eights, sign, every,
            out.ctypes.data,
        )  # fmt: skip
        if not done:
            raise MemoryError("There is no memory for the bits of one sketch.")
        return out

    return read


def _paths(
    library: ctypes.CDLL,
    metrics: NDArray[np.int32],
    costs: NDArray[np.int32] | None = None,
) -> NDArray[np.uint8]:
    count, rate, steps = metrics.shape
    signs = trellis.state_signs(rate)
    taken = np.empty((steps, 2 * trellis.HALF), dtype=np.uint8)
    out = np.zeros((count, steps), dtype=np.uint8)
    library.sketch_paths(
        metrics.ctypes.data, None if costs is None else costs.ctypes.data, signs.ctypes.data,
        count, rate, taken.ctypes.data, out.ctypes.data,
    )  # fmt: skip
    return out


def _planes(library: ctypes.CDLL, products: NDArray[np.int32]) -> tuple[NDArray[np.uint8], int]:
    """`bit_planes` of a multiple of 64 products, in C: an answer pays for it once."""
    sign = _sign(products)
    if sign > 31:
        return bit_planes(products)
    products = np.ascontiguousarray(products, dtype=np.int32)
    planes = np.zeros(((sign // 8 + 1) * 8, len(products) // 8), dtype=np.uint8)
    library.sketch_planes(products.ctypes.data, len(products), sign, planes.ctypes.data)
    return planes, sign


def _sign(products: NDArray[np.int32]) -> int:
    """The binary place of the sign, above those that the largest product needs."""
    largest = max(int(products.max(initial=0)), -int(products.min(initial=0)))
    return largest.bit_length()


def bit_planes(products: NDArray[np.int32]) -> tuple[NDArray[np.uint8], int]:
    """Products in two's complement, a row of packed bits for each binary place, and which place is
    the sign. Rows are filled up to whole words, and with empty ones to a multiple of eight."""
    sign = _sign(products)
    width = -(-len(products) // 64) * 8
    planes = np.zeros(((sign // 8 + 1) * 8, width), dtype=np.uint8)
    for place in range(sign + 1):
        packed = np.packbits((products >> min(place, 31)) & 1)
        planes[place, : len(packed)] = packed
    return planes, sign
