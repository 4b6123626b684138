"""Several adapters in one request answer as PEFT's `add_weighted_adapter` of the same adapters."""

from __future__ import annotations

import copy
import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from serving.engine.backend import Batch
from serving.engine.merges import Merge, MergeKind, shares
from serving.engine.native.merges import ON_ITS_WAY, Merges
from serving.engine.types import BadRequest, UnknownAdapter
from tests.serving.engine.conftest import prompt_of, request, rounded, tokens_of

WEIGHTS = (0.7, -0.4, 1.3)
OFF = 1e-5  # of the largest logit
WISHES = [
    (MergeKind.LINEAR, 1.0),
    (MergeKind.TIES, 0.4),
    (MergeKind.TIES, 1.0),
    (MergeKind.DARE_LINEAR, 0.6),
    (MergeKind.DARE_TIES, 0.5),
    (MergeKind.CAT, 1.0),
]


@pytest.fixture(scope="module")
def parents(make_adapter: Any) -> list[tuple[str, Path]]:
    """Another scaling each, and one that leaves some layers out."""
    return [
        make_adapter(81, 4),
        make_adapter(82, 4, use_rslora=True),
        make_adapter(83, 4, target_modules=["q_proj", "down_proj"], lora_alpha=3),
    ]


@pytest.fixture(scope="module")
def peft(base_folder: Path, parents: list[tuple[str, Path]]) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(model, parents[0][1], adapter_name="0")
    for place, (_, folder) in enumerate(parents[1:], 1):
        tuned.load_adapter(folder, adapter_name=str(place))
    return rounded(tuned).eval()


@pytest.fixture
def loaded(engine, parents):
    for name, folder in parents:
        engine.ensure_adapter(name, folder)
    return tuple((name, weight) for (name, _), weight in zip(parents, WEIGHTS, strict=True))


@pytest.mark.parametrize(("kind", "density"), WISHES)
def test_a_merge_answers_as_in_peft(engine, loaded, peft, kind, density):
    merge = Merge(loaded, kind, density, seed=5)
    name = engine.ensure_merged(merge)
    oracle = copy.deepcopy(peft)
    _seeded(oracle.base_model, 5)
    oracle.add_weighted_adapter(
        ["0", "1", "2"],
        list(WEIGHTS),
        "merged",
        combination_type=kind.value,
        density=None if density == 1.0 and kind is MergeKind.LINEAR else density,
    )
    oracle.set_adapter("merged")
    prompt = prompt_of(23, seed=4)
    with torch.inference_mode():
        expected = rounded(oracle)(input_ids=torch.tensor([prompt])).logits[0]
    ours = _logits(engine, name, prompt)
    assert float((ours - expected).abs().max() / expected.abs().max()) <= OFF
    with torch.inference_mode(), oracle.disable_adapter():
        base = oracle(input_ids=torch.tensor([prompt])).logits[0]
    assert float((ours - base).abs().max() / expected.abs().max()) > 1e-2


def _seeded(peft: Any, seed: int) -> None:
    """What is drawn for the merge alone; before it PEFT draws weights that it then overwrites."""
    plain, seeds = peft._generalized_task_arithmetic_weighted_adapter, [seed]

    def combined(*args: Any) -> Any:
        if seeds:
            torch.manual_seed(seeds.pop())
        return plain(*args)

    peft._generalized_task_arithmetic_weighted_adapter = combined


def _logits(engine: Any, name: str, prompt: list[int]) -> torch.Tensor:
    backend, places = engine.backend, np.arange(len(prompt), dtype=np.int32)
    backend.place(7, list(range(-(-len(prompt) // backend.page_size))), backend.adapter(name))
    try:
        with torch.inference_mode():
            batch = Batch(np.array(prompt, np.int32), places, places * 0 + 7, places)
            return backend.forward(batch).clone()
    finally:
        backend.free(7)


def test_a_merged_row_shares_a_batch_with_its_parents(engine, loaded):
    name = engine.ensure_merged(Merge(loaded, MergeKind.TIES, 0.5))
    prompt = prompt_of(12, seed=8)
    names = [name, loaded[0][0], None]
    alone = [tokens_of(engine, request(f"a{i}", prompt, adapter=n)) for i, n in enumerate(names)]
    streams = [
        engine.generate(request(f"t{i}", prompt, adapter=one)) for i, one in enumerate(names)
    ]
    together = [[token.id for token in stream] for stream in streams]
    assert together == alone
    assert alone[0] not in alone[1:]


def test_the_same_merge_is_made_once(engine, loaded, monkeypatch):
    merge = Merge(loaded, MergeKind.DARE_LINEAR, 0.5, seed=3)
    name = engine.ensure_merged(merge)
    monkeypatch.setattr(
        f"{type(engine.backend).__module__}.merged", lambda *_: pytest.fail("again")
    )
    assert engine.ensure_merged(Merge(loaded, MergeKind.DARE_LINEAR, 0.5, seed=3)) == name


def test_the_longest_unused_merges_go_but_for_as_many_as_run_at_once() -> None:
    held = Merges(budget=5_000, at_least=2)
    for name in "abcd":
        held.add(name, name.encode() * 2_000, 0.0)
        held.get("a")
    assert list(held.residents()) == ["d", "a"]
    for name in "xy":
        held.add(name, name.encode() * 9_000, 0.0)
    assert list(held.residents()) == ["x", "y"]
    found = held.get("x")
    assert found is not None
    assert ctypes.string_at(found.address, found.size) == b"x" * 9_000


def test_idle_merges_keep_to_the_budget_however_few_they_are() -> None:
    now = [0.0]
    held = Merges(budget=5_000, at_least=20, clock=lambda: now[0])
    for name in "abc":
        held.add(name, b"x" * 4_000, 0.0)
    assert list(held.residents()) == ["a", "b", "c"]  # on their way to their rows
    now[0] = ON_ITS_WAY / 2
    held.get("b")
    now[0] = ON_ITS_WAY
    assert list(held.residents()) == ["b"]
    held.add("d", b"x" * 6_000, 0.0)
    now[0] = 3 * ON_ITS_WAY
    assert list(held.residents()) == []


def test_each_setting_that_changes_the_numbers_changes_the_name(loaded):
    merges = [
        Merge(loaded),
        Merge(loaded, MergeKind.TIES),
        Merge(loaded, MergeKind.TIES, 0.5),
        Merge(loaded, MergeKind.DARE_TIES, 0.5),
        Merge(loaded, MergeKind.DARE_TIES, 0.5, seed=1),
        Merge(loaded[:2]),
        Merge((loaded[0], (loaded[1][0], 0.4))),
    ]
    assert len({merge.name for merge in merges}) == len(merges)
    assert Merge(loaded, MergeKind.LINEAR, 0.5, seed=7).name == Merge(loaded).name


def test_different_ranks_are_merged_side_by_side_alone(engine, loaded, make_adapter):
    name, folder = make_adapter(84, 7)
    engine.ensure_adapter(name, folder)
    both = (loaded[0], (name, 0.5))
    assert engine.ensure_merged(Merge(both, MergeKind.CAT))
    with pytest.raises(BadRequest, match=r"different ranks.*only cat"):
        engine.ensure_merged(Merge(both))


def test_an_adapter_with_magnitudes_is_refused(engine, loaded, make_adapter):
    name, folder = make_adapter(85, 4, use_dora=True)
    engine.ensure_adapter(name, folder)
    with pytest.raises(BadRequest, match="DoRA"):
        engine.ensure_merged(Merge((loaded[0], (name, 0.5))))


def test_a_parent_that_is_not_loaded_is_named(engine, loaded):
    with pytest.raises(UnknownAdapter, match="f" * 12):
        engine.ensure_merged(Merge((loaded[0], ("f" * 64, 0.5))))


@pytest.mark.parametrize(
    ("merge", "reason"),
    [
        (Merge(()), "1 to 8"),
        (Merge(tuple((f"{n:064x}", 1.0) for n in range(9))), "1 to 8"),
        (Merge((("a" * 64, 1.0), ("a" * 64, 1.0))), "twice"),
        (Merge((("a" * 64, 0.0),)), "weight"),
        (Merge((("a" * 64, float("nan")),)), "weight"),
        (Merge((("a" * 64, 11.0),)), "weight"),
        (Merge((("a" * 64, 1.0),), MergeKind.TIES, 0.0), "density"),
        (Merge((("a" * 64, 1.0),), MergeKind.TIES, 1.5), "density"),
    ],
    ids=range(8),
)
def test_a_merge_without_a_meaning_is_refused(engine, merge, reason):
    with pytest.raises(BadRequest, match=reason):
        engine.ensure_merged(merge)


def test_the_parents_share_by_the_size_of_their_weights(loaded):
    found = shares(Merge(loaded))
    assert sum(found.values()) == pytest.approx(1)
    assert found[loaded[1][0]] == pytest.approx(0.4 / 2.4)
