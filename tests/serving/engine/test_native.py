"""The native step: the same numbers in any company, with any threads, on any processor."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from serving.engine.backend import Batch
from serving.engine.native import build
from serving.engine.native.backend import NativeBackend
from serving.engine.native.layout import pack, unpack
from serving.engine.native.program import read_program
from tests.serving.engine.conftest import CONTEXT, prompt_of

pytestmark = pytest.mark.skipif(build.library() is None, reason="needs a C++ compiler")


def backend_of(
    base_folder: Path,
    folder: Path,
    library: ctypes.CDLL | None = None,
    threads: int = 1,
    *,
    int8: bool = False,
) -> NativeBackend:
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    found = library or build.library()
    assert found is not None
    return NativeBackend(
        found,
        read_program(model, CONTEXT, int8=int8),
        folder,
        slots=6,
        context=CONTEXT,
        pages=80,
        threads=threads,
        warm_bytes=1 << 20,
    )


def batch_of(prompts: dict[int, list[int]], begin: int = 0) -> Batch:
    """Whole prompts by slot; every token's logits are wanted."""
    ids = [token for prompt in prompts.values() for token in prompt]
    places = [begin + place for prompt in prompts.values() for place in range(len(prompt))]
    slots = [slot for slot, prompt in prompts.items() for _ in prompt]
    wanted = range(len(ids))
    return Batch(*(np.array(one, np.int32) for one in (ids, places, slots, wanted)))


def placed(backend: NativeBackend, adapters: dict[int, str | None]) -> NativeBackend:
    for slot, name in adapters.items():
        adapter = backend.adapter(name) if name else None
        backend.place(slot, list(range(slot * 12, slot * 12 + 12)), adapter)
    return backend


@pytest.fixture(scope="module")
def adapters(make_adapter: Any) -> list[tuple[str, Path]]:
    return [make_adapter(61, 3), make_adapter(62, 8), make_adapter(63, 19)]


def test_a_row_has_the_same_bits_in_any_company(base_folder, adapters, tmp_path):
    backend = backend_of(base_folder, tmp_path)
    for name, folder in adapters:
        backend.load(name, folder)
    names = [None, *(name for name, _ in adapters), None]
    prompts = {slot: prompt_of(5 + 9 * slot, seed=slot) for slot in range(5)}
    with torch.inference_mode():
        together = placed(backend, dict(enumerate(names))).forward(batch_of(prompts))
        at = 0
        for slot, prompt in prompts.items():
            alone = placed(backend, {slot: names[slot]}).forward(batch_of({slot: prompt}))
            assert torch.equal(alone, together[at : at + len(prompt)])
            at += len(prompt)


def test_a_prompt_in_pieces_has_the_same_bits(base_folder, tmp_path):
    backend = placed(backend_of(base_folder, tmp_path), {0: None})
    prompt = prompt_of(70)
    whole = backend.forward(batch_of({0: prompt}))
    pieces, at = [], 0
    for size in (1, 15, 16, 17, 21):
        pieces.append(backend.forward(batch_of({0: prompt[at : at + size]}, begin=at)))
        at += size
    assert torch.equal(torch.cat(pieces), whole)


def test_threads_change_nothing(base_folder, adapters, tmp_path):
    prompts = {slot: prompt_of(20, seed=slot) for slot in range(3)}
    answers = []
    for threads in (1, 3):
        backend = backend_of(base_folder, tmp_path, threads=threads)
        backend.load(*adapters[1])
        placed(backend, {0: None, 1: adapters[1][0], 2: adapters[1][0]})
        answers.append(backend.forward(batch_of(prompts)))
        backend.close()
    assert torch.equal(*answers)


@pytest.mark.parametrize("flags", [("-mavx2", "-mfma"), ()], ids=["avx2", "plain"])
def test_other_processors_code_says_the_same(base_folder, adapters, tmp_path, monkeypatch, flags):
    if build.platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("These flags are of x86.")
    monkeypatch.setattr(build, "CHOICES", (flags,))
    monkeypatch.setattr(build, "FLAGS", tuple(f.replace("-O3", "-O1") for f in build.FLAGS))
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path])
    library = build.library.__wrapped__()
    prompts = {slot: prompt_of(12 + slot, seed=slot) for slot in range(3)}
    answers = []
    for place, one in enumerate((None, library)):
        backend = backend_of(base_folder, tmp_path / str(place), one)
        for name, folder in adapters:
            backend.load(name, folder)
        placed(backend, {0: None, 1: adapters[0][0], 2: adapters[2][0]})
        answers.append(backend.forward(batch_of(prompts)))
        backend.close()
    off = float((answers[0] - answers[1]).abs().max() / answers[0].abs().max())
    assert off < 1e-5


@pytest.mark.parametrize("shape", [(64, 64), (33, 70), (1, 1), (96, 31)])
def test_packing_loses_nothing(shape):
    weight = torch.randn(shape)
    assert torch.equal(unpack(pack(weight), *shape), weight)


def test_a_machine_without_a_compiler_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path])
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(build.NotBuilt, match="installed"):
        build.build()
    assert build.library.__wrapped__() is None


def test_a_compiler_that_fails_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "_folders", lambda: [tmp_path])
    monkeypatch.setattr(build, "COMPILERS", ("false",))
    with pytest.raises(build.NotBuilt, match="refused"):
        build.build()
