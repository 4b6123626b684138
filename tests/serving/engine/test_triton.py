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
import torch
from serving.engine.adapters import LoraWeights
from serving.engine.lora_triton import TritonLora, add

torch.manual_seed(0)
def adapter(rank, scaling):
    down, up = torch.randn(rank, 200), torch.randn(300, rank)
    return LoraWeights(down.bfloat16(), up.bfloat16(), scaling, None)

one, two, three = adapter(3, 2.0), adapter(8, 0.5), adapter(17, 1.0)
rows = [one, None, two, three, one]
x, y = torch.randn(5, 200), torch.randn(5, 300)
kernel = TritonLora(torch.device("cpu"), torch.float32)
found = add(x, y, kernel.table(rows))
for place, row in enumerate(rows):
    expected = y[place]
    if row is not None:
        expected = expected + row.scaling * (row.up.float() @ (row.down.float() @ x[place]))
    assert (found[place] - expected).abs().max() <= 1e-5 * expected.abs().max(), place
assert torch.equal(add(x, y, kernel.table([None] * 5)), y)
"""


@needs_triton
def test_each_row_has_its_own_adapter_of_its_own_rank_or_none():
    subprocess.run(
        [sys.executable, "-c", SCRIPT],
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
