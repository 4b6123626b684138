"""A base in 8 bits: only where its own evaluation says the same, and then nearly the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from serving.engine import choosing, quality
from serving.engine.engine import Engine
from serving.engine.native.build import library
from serving.engine.native.layout import dequantise, quantise
from serving.engine.quality import Quality
from tests.serving.engine.conftest import prompt_of, request, tokens_of

STARTER = Path(__file__).resolve().parents[3] / "modelfactory" / "starter"
found = library()
native = pytest.mark.skipif(
    found is None or not found.openledger_int8(), reason="needs a compiler and AVX-512 VNNI"
)


@pytest.mark.parametrize("shape", [(32, 32), (70, 40), (1, 100)])
def test_a_weight_is_off_by_half_a_step_of_its_group_at_most(shape):
    weight = torch.randn(shape) * torch.logspace(-3, 3, shape[0])[:, None]
    again = dequantise(quantise(weight), *shape)
    assert ((weight - again).abs() <= weight.abs().amax(-1, keepdim=True) / 127 * 0.501).all()
    assert torch.equal(dequantise(quantise(torch.zeros(shape)), *shape), torch.zeros(shape))


@native
def test_the_starter_passes_its_gate_and_says_so(tmp_path, monkeypatch):
    seen: list[Quality] = []
    plain = quality.compare
    monkeypatch.setattr(quality, "compare", lambda *a: seen.append(plain(*a)) or seen[-1])
    for _ in range(2):
        made = Engine(STARTER, int8=True, base_sha256="2" * 64, adapter_folder=tmp_path)
        try:
            assert made.residency().backend == "native, 8 bits"
            assert tokens_of(made, request("one", prompt_of(5), max_tokens=3))
        finally:
            made.close()
    (one,) = seen  # the second start knows
    assert one.perplexity <= 1.01
    assert one.agreement >= 0.98
    assert one.tokens > 3_000


@native
def test_a_base_without_an_evaluation_stays_in_float32(base_folder):
    made = Engine(base_folder, int8=True)
    made.close()
    assert made.residency().backend == "native"


@native
@pytest.mark.parametrize(
    "worse", [Quality(1.011, 1.0, 9_000), Quality(1.0, 0.979, 9_000), Quality(1.0, 1.0, 999)]
)
def test_a_base_that_says_something_else_stays_in_float32(
    base_folder, tmp_path, monkeypatch, worse
):
    folder = Path(shutil.copytree(base_folder, tmp_path / "base"))
    (folder / quality.EVALUATION_FILE).write_text(json.dumps(["every answer pays"]))
    monkeypatch.setattr(choosing.quality, "compare", lambda *_: worse)
    made = Engine(folder, int8=True)
    made.close()
    assert made.residency().backend == "native"


def test_an_evaluation_that_is_none_is_told(base_folder, tmp_path):
    folder = Path(shutil.copytree(base_folder, tmp_path / "base"))
    (folder / quality.EVALUATION_FILE).write_text('{"text": 1}')
    with pytest.raises(ValueError, match="list of texts"):
        Engine(folder, int8=True)


@native
def test_rows_in_8_bits_have_the_same_bits_in_any_company(base_folder, make_adapter, tmp_path):
    """And an adapter's products stay in float32 beside them."""
    from tests.serving.engine.test_native import backend_of, batch_of, placed

    name, folder = make_adapter(71, 6, use_dora=True)
    backend = backend_of(base_folder, tmp_path, int8=True)
    whole = backend_of(base_folder, tmp_path / "whole")
    for one in (backend, whole):
        one.load(name, folder)
        placed(one, {0: name, 1: None, 2: name})
    prompts = {0: prompt_of(9, 1), 1: prompt_of(14, 2), 2: prompt_of(3, 3)}
    together = backend.forward(batch_of(prompts)).split([9, 14, 3])
    for slot, logits in enumerate(together):
        alone = backend.forward(batch_of({slot: prompts[slot]}))
        assert torch.equal(alone, logits)
        exact = whole.forward(batch_of({slot: prompts[slot]}))
        # Of random weights, whose errors nothing evens out.
        assert 1e-5 < float((alone - exact).abs().max() / exact.abs().max()) < 0.15
