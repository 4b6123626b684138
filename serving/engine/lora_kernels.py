# mypy: ignore-errors
"""The kernels of `lora_triton`, apart from it because they need Triton to be imported.

Triton is a language of its own in Python's clothes, without types.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def down_kernel(
    inputs,  # (rows, width)
    downs,  # (rows): addresses of (rank, width)
    ranks,  # (rows)
    middle,  # (rows, most) float32
    width,
    most: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    rank = tl.load(ranks + row)
    if rank > 0:
        matrix = tl.load(downs + row).to(inputs.dtype)
        each = tl.arange(0, most)
        total = tl.zeros((most,), dtype=tl.float32)
        for start in range(0, width, block):
            place = start + tl.arange(0, block)
            there = place < width
            x = tl.load(inputs + row * width + place, mask=there, other=0.0).to(tl.float32)
            w = tl.load(
                matrix + each[:, None] * width + place[None, :],
                mask=(each[:, None] < rank) & there[None, :],
                other=0.0,
            ).to(tl.float32)
            total += tl.sum(w * x[None, :], axis=1)
        tl.store(middle + row * most + each, total)


@triton.jit
def up_kernel(
    middle,  # (rows, most) float32
    ups,  # (rows): addresses of (rank, width)
    ranks,  # (rows)
    output,  # (rows, width), added to
    width,
    most: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    rank = tl.load(ranks + row)
    if rank > 0:
        matrix = tl.load(ups + row).to(output.dtype)
        each = tl.arange(0, most)
        place = tl.program_id(1) * block + tl.arange(0, block)
        there = place < width
        h = tl.load(middle + row * most + each, mask=each < rank, other=0.0)
        w = tl.load(
            matrix + each[:, None] * width + place[None, :],
            mask=(each[:, None] < rank) & there[None, :],
            other=0.0,
        ).to(tl.float32)
        plain = tl.load(output + row * width + place, mask=there, other=0.0).to(tl.float32)
        total = plain + tl.sum(w * h[:, None], axis=0)
        tl.store(output + row * width + place, total.to(output.dtype.element_ty), mask=there)
