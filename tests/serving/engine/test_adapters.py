"""Which adapters are let in, and which are refused with the reason."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from serving.engine.adapters import CONFIG_FILE, WEIGHTS_FILE, read_adapter
from serving.engine.engine import Engine
from serving.engine.types import AdapterRejected, UnknownAdapter
from tests.serving.engine.conftest import name_of, prompt_of, request, tokens_of

Q = "base_model.model.model.layers.0.self_attn.q_proj"


SEEDS = itertools.count(1000)


@pytest.fixture
def folder(make_adapter, copied) -> Path:
    """An adapter that no other test has loaded into the shared engine."""
    return copied(make_adapter(next(SEEDS))[1])


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    for key, value in changes.items():
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
    save_file(tensors, folder / WEIGHTS_FILE)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(engine: Engine, folder: Path, reason: str) -> None:
    with pytest.raises(AdapterRejected, match=reason):
        engine.ensure_adapter(name_of(folder), folder)


def test_it_takes_a_valid_adapter_once(engine, folder):
    calls: list[int] = []

    def source() -> Path:
        calls.append(1)
        return folder

    for _ in range(3):
        engine.ensure_adapter(name_of(folder), source)
    assert len(calls) == 1


def test_it_refuses_other_bytes_under_the_name(engine, make_adapter, folder):
    wrong = name_of(folder)
    change_weights(folder, **{f"{Q}.lora_B.weight": torch.ones(64, 4)})
    with pytest.raises(AdapterRejected, match="hash"):
        engine.ensure_adapter(wrong, folder)


def test_it_refuses_another_scaling_under_the_name(engine, folder):
    wrong = name_of(folder)
    change_config(folder, lora_alpha=1000)
    with pytest.raises(AdapterRejected, match="hash"):
        engine.ensure_adapter(wrong, folder)


@pytest.mark.parametrize(
    ("key", "tensor", "reason"),
    [
        (f"{Q}.lora_A.weight", torch.full((4, 64), float("nan")), "not finite"),
        (f"{Q}.lora_B.weight", torch.full((64, 4), float("inf")), "not finite"),
        (f"{Q}.lora_A.weight", torch.zeros(4, 63), "63 to 64 in the adapter"),
        (f"{Q}.lora_B.weight", torch.zeros(65, 4), "64 to 65 in the adapter"),
        (f"{Q}.lora_A.weight", torch.zeros(5, 64), "do not fit each other"),
        (f"{Q}.lora_A.weight", torch.zeros(4, 64, 1), "do not fit each other"),
        (f"{Q}.lora_A.weight", torch.zeros(4, 64, dtype=torch.int32), "float32"),
        (f"{Q}.lora_B.weight", None, "expected"),
        ("base_model.model.model.layers.9.mlp.up_proj.lora_A.weight", torch.zeros(4, 64), "no lin"),
        ("model.embed_tokens.weight", torch.zeros(4, 64), "not a tensor of a LoRA adapter"),
        ("base_model.model.lm_head.lora_A.weight", torch.zeros(4, 64), "no linear layer lm_head"),
    ],
)
def test_it_refuses_wrong_tensors(engine, folder, key, tensor, reason):
    change_weights(folder, **{key: tensor})
    refused(engine, folder, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "LOHA"}, "Only LoRA"),
        ({"r": 8}, "has rank 4"),
        ({"r": 0}, "r is 0"),
        ({"r": 100_000}, "r is 100000"),
        ({"r": "4"}, "r is '4'"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"use_dora": True}, "magnitude"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"alpha_pattern": {"^(.*)+$": 3}}, "plain names"),
    ],
)
def test_it_refuses_configurations_that_it_would_compute_wrongly(engine, folder, changes, reason):
    change_config(folder, **changes)
    refused(engine, folder, reason)


def test_it_never_opens_a_pickle(engine, folder):
    name = name_of(folder)
    torch.save(load_file(folder / WEIGHTS_FILE), folder / "adapter_model.bin")
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(AdapterRejected, match="only safetensors"):
        engine.ensure_adapter(name, folder)


def test_it_refuses_a_pickle_that_calls_itself_safetensors(engine, folder):
    torch.save(load_file(folder / WEIGHTS_FILE), folder / WEIGHTS_FILE)
    refused(engine, folder, "cannot be read")


def test_it_refuses_an_adapter_of_another_base(engine, folder):
    change_config(folder, base_weights_sha256="0" * 64)
    refused(engine, folder, "other base weights")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"r": 4}', "\x00"])
def test_it_refuses_a_broken_configuration(engine, folder, text):
    name = name_of(folder)
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(AdapterRejected):
        engine.ensure_adapter(name, folder)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused_and_nothing_else_happens(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("noise")
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    (folder / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(AdapterRejected):
        read_adapter(name_of(folder), folder, {})


def test_a_refused_adapter_can_be_brought_again(engine, folder):
    good = (folder / WEIGHTS_FILE).read_bytes()
    name = name_of(folder)
    (folder / WEIGHTS_FILE).write_bytes(good[:-1])
    with pytest.raises(AdapterRejected):
        engine.ensure_adapter(name, folder)
    (folder / WEIGHTS_FILE).write_bytes(good)
    engine.ensure_adapter(name, folder)


def test_an_adapter_that_loads_slowly_keeps_no_row_waiting(engine, folder, oracle):
    begun, may_go_on = threading.Event(), threading.Event()

    def slow() -> Path:
        begun.set()
        assert may_go_on.wait(60)
        return folder

    loading = threading.Thread(target=engine.ensure_adapter, args=(name_of(folder), slow))
    loading.start()
    try:
        assert begun.wait(60)
        prompt = prompt_of(8, seed=9)
        assert tokens_of(engine, request("beside", prompt)) == oracle(prompt, 24)
        assert loading.is_alive()
    finally:
        may_go_on.set()
        loading.join()
    assert tokens_of(engine, request("then", prompt_of(4), adapter=name_of(folder)))


def test_it_tells_which_adapters_are_in_memory(base_folder, make_adapter, backend):
    made = Engine(base_folder, backend=backend)
    (one, first), (two, second) = (make_adapter(seed) for seed in (71, 72))
    try:
        made.ensure_adapter(one, first)
        made.ensure_adapter(two, second)
        made.pin_adapter(one)
        tokens_of(made, request("q", prompt_of(5), adapter=two, max_tokens=3))
        told = {adapter.name: adapter for adapter in made.adapters()}
        residency = made.residency()
        with pytest.raises(UnknownAdapter):
            made.pin_adapter("0" * 64)
    finally:
        made.close()
    assert list(told) == [one, two]
    assert [told[name].pinned for name in (one, two)] == [True, False]
    assert all(
        adapter.bytes > 1000 and adapter.hits for adapter in told.values() if adapter.name == two
    )
    assert (residency.adapters, residency.registered) == (2, 2)
    assert (residency.answer_tokens, residency.steps, residency.step_rows) == (3, 3, 3)


def test_adapters_beyond_the_limit_push_the_oldest_out_and_running_rows_go_on(
    base_folder, make_adapter, oracle
):
    made = Engine(base_folder, max_adapters=2, backend="transformers")
    adapters = [make_adapter(seed) for seed in (31, 32, 33)]
    prompt = prompt_of(5)
    try:
        made.ensure_adapter(*adapters[0])
        stream = made.generate(request("runs", prompt, adapter=adapters[0][0], max_tokens=60))
        for name, source in adapters[1:]:
            made.ensure_adapter(name, source)
        assert made.residency().adapters == 2
        assert [token.id for token in stream] == oracle(prompt, 60, adapters[0][1])
        made.ensure_adapter(*adapters[0])
        again = tokens_of(made, request("again", prompt, adapter=adapters[0][0]))
        assert again == oracle(prompt, 24, adapters[0][1])
    finally:
        made.close()
