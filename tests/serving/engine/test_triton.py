"""The kernel for CUDA devices multiplies each row by its own adapter (in Triton's interpreter)."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from serving.engine import lora_triton

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")

SCRIPT = """
import sys
import torch
from serving.engine.adapters import Adapter, LoraWeights
from serving.engine.lora_triton import Held, TritonLora

torch.manual_seed(0)
dtype, bar = getattr(torch, sys.argv[1]), float(sys.argv[2])

def adapter(rank, scaling):
    down, up = torch.randn(rank, 200), torch.randn(300, rank)
    return LoraWeights(down.bfloat16(), up.bfloat16(), scaling, None)

one, two, three = adapter(3, 2.0), adapter(8, 0.5), adapter(17, 1.0)
rows = [one, None, two, three, one]
x, y = torch.randn(5, 200).to(dtype), torch.randn(5, 300).to(dtype)
kernel = TritonLora(torch.device("cpu"), dtype)

def check(found, rows):
    for place, row in enumerate(rows):
        expected = y[place].float()
        if row is not None:
            change = row.down.float() @ x[place].float()
            expected = expected + row.scaling * (row.up.float() @ change)
        assert (found[place] - expected).abs().max() <= bar * expected.abs().max(), place

check(kernel.add(x, y, kernel.table(rows)), rows)
assert torch.equal(kernel.add(x, y, kernel.table([None] * 5)), y)

held = Held(kernel, ["other", "layer"], 5)
table = held.table("layer", 5, 32)
for turned in (rows, [*rows[2:], *rows[:2]], rows[1:4]):  # in the same memory
    adapters = [row and Adapter("", 1, {"layer": row}, 0) for row in turned]
    assert held.fill(adapters) == 17
    check(kernel.add(x, y, table), [*turned, None, None][:5])
"""


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "bar"), [("float32", 1e-5), ("float16", 1e-3), ("bfloat16", 1e-2)]
)
def test_each_row_has_its_own_adapter_of_its_own_rank_or_none(dtype, bar):
    subprocess.run(
        [sys.executable, "-c", SCRIPT, dtype, str(bar)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=True,
        timeout=120,
    )


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_device_multiplies_as_torch_does(dtype):
    off, _, _ = lora_triton.trial(torch.device("cuda"), dtype)
    assert off <= lora_triton.TOLERANCE


def test_a_cpu_multiplies_by_torch():
    assert lora_triton.chosen(torch.device("cpu"), torch.float32) is None
