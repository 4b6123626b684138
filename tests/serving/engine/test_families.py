"""Every family that is served gives transformers' and PEFT's logits and tokens, on each backend."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from bench.serving.tape import ByAddress, Tape
from serving.engine import graph_trial
from serving.engine.backend import Batch
from serving.engine.base import load_base
from serving.engine.engine import Engine
from serving.engine.module import ModuleBackend
from serving.engine.native.build import library
from serving.engine.types import Request
from tests.serving.engine.conftest import build_tokenizer, name_of, prompt_of, rounded

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 192,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": None,
    "pad_token_id": 2,
}
ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0}
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama3": (
        LlamaConfig,
        {
            "rope_parameters": {
                **ROPE,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "llama-bias": (LlamaConfig, {"attention_bias": True, "mlp_bias": True, "head_dim": 32}),
    "qwen2": (Qwen2Config, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, {"head_dim": 32}),
    "mistral": (MistralConfig, {"sliding_window": 192, "num_key_value_heads": 1}),
    "gemma": (GemmaConfig, {"head_dim": 16, "tie_word_embeddings": True}),
    "smollm": (LlamaConfig, {"tie_word_embeddings": True, "hidden_size": 72, "head_dim": 16}),
    "smollm3": (SmolLM3Config, {"no_rope_layers": [1, 0]}),
}
# An adapter of another kind and rank for each.
ADAPTERS: dict[str, dict[str, Any]] = {
    "llama3": {"r": 5},
    "llama-bias": {"r": 5, "use_dora": True},
    "qwen2": {"r": 16, "use_rslora": True},
    "qwen3": {"r": 1},
    "mistral": {"r": 32},
    "gemma": {"r": 8, "use_dora": True},
    "smollm": {"r": 64, "use_rslora": True},
    "smollm3": {"r": 3, "rank_pattern": {"up_proj": 11}},
}
NEAR = 1e-4  # PEFT's two best logits are a tie below this
OFF = 1e-5  # of the largest logit


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(folder of the base, PEFT's model, name and folder of its adapter)."""
    kind, options = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    model = _saved(kind(**{**SHAPE, **options, "vocab_size": 400}), folder / "base")
    tuned = _tuned(model, folder / "adapter", **ADAPTERS[request.param])
    return folder / "base", tuned, name_of(folder / "adapter"), folder / "adapter"


def _saved(config: Any, folder: Path) -> Any:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms begin as zeros and ones
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    return model.eval()


def _tuned(model: Any, folder: Path, **options: Any) -> Any:
    config = LoraConfig(
        lora_alpha=10, target_modules="all-linear", task_type="CAUSAL_LM", **options
    )
    tuned = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    tuned.save_pretrained(folder)
    return rounded(tuned).eval()


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
def test_a_family_answers_as_in_peft(family: Any) -> None:
    folder, tuned, name, adapter = family
    made = Engine(folder, max_active=4, backend="native")
    made.ensure_adapter(name, adapter)
    prompt = prompt_of(19)
    try:
        streams = {
            each: made.generate(Request(str(each), tuple(prompt), each, 128, 0.0))
            for each in (name, None)
        }
        for each, stream in streams.items():
            with torch.inference_mode(), _base_alone(tuned, each is None):
                answer = [token.id for token in stream]
                logits = tuned(input_ids=torch.tensor([prompt + answer])).logits[0]
                _same_tokens(answer, logits[len(prompt) - 1 : -1])
                assert _off(made, each, prompt + answer, logits) <= OFF
    finally:
        made.close()


def test_a_family_is_captured_and_replayed(family: Any) -> None:
    """Nothing in its forward waits for the device or holds what changes from step to step."""
    model, base = load_base(family[0], device="cpu", dtype="float32")
    tape = Tape()
    with torch.inference_mode():
        backend = ModuleBackend(
            model, slots=3, context=base.context, pages=36, kernel=ByAddress(), capture=tape
        )
        off, _, _ = graph_trial.trial(backend)
    assert off <= OFF
    assert tape.captures == 1
    assert tape.replays > 2


def _base_alone(tuned: Any, wanted: bool) -> Any:
    import contextlib

    return tuned.disable_adapter() if wanted else contextlib.nullcontext()


def _same_tokens(answer: list[int | None], logits: torch.Tensor) -> None:
    assert len(answer) == len(logits) == 128
    for token, line in zip(answer, logits, strict=True):
        best = line.topk(2)
        assert token == best.indices[0] or float(best.values[0] - line[token]) < NEAR


def test_the_plain_kernel_gives_a_family_logits_as_in_peft(family: Any) -> None:
    """torch.bmm beside transformers' own forward, which serves where the native step does not."""
    folder, tuned, name, adapter = family
    made = Engine(folder, max_active=4, backend="transformers")
    made.ensure_adapter(name, adapter)
    ids = prompt_of(100, seed=6)
    try:
        for each in (name, None):
            with torch.inference_mode(), _base_alone(tuned, each is None):
                logits = tuned(input_ids=torch.tensor([ids])).logits[0]
                assert _off(made, each, ids, logits) <= OFF
    finally:
        made.close()


def _off(made: Engine, name: str | None, ids: list[Any], expected: torch.Tensor) -> float:
    """How far all tokens' logits, by the backend itself in one step, are off; of the largest."""
    places = np.arange(len(ids), dtype=np.int32)
    adapter = made.backend.adapter(name) if name else None
    made.backend.place(3, list(range(-(-len(ids) // 16))), adapter)
    ours = made.backend.forward(Batch(np.array(ids, np.int32), places, places * 0 + 3, places))
    made.backend.free(3)
    return float((ours - expected).abs().max() / expected.abs().max())


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
def test_a_model_that_the_native_step_does_not_know_is_left_to_transformers(
    tmp_path: Path,
) -> None:
    config = PhiConfig(**{**SHAPE, "vocab_size": 400, "num_key_value_heads": 4})
    model = _saved(config, tmp_path)
    prompt = prompt_of(9)
    with pytest.raises(ValueError, match="PhiForCausalLM"):
        Engine(tmp_path, backend="native")
    made = Engine(tmp_path)
    try:
        assert made.residency().backend == "transformers"
        answer = [t.id for t in made.generate(Request("phi", tuple(prompt), None, 24, 0.0))]
    finally:
        made.close()
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    assert answer == logits.argmax(-1).tolist()


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
def test_a_native_step_that_is_wrong_is_not_chosen(
    base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.engine import choosing

    def spoiled(model: Any, context: int, **options: Any) -> Any:
        program = read_program(model, context, **options)
        program.model.epsilon = ctypes.c_float(0.5)
        return program

    read_program = choosing.read_program
    monkeypatch.setattr(choosing, "read_program", spoiled)
    made = Engine(base_folder)
    made.close()
    assert made.residency().backend == "transformers"
