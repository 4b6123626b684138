"""Retrainings that are made at once are those that would have been made one by one."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from attribution.influence.examples import IndexedExample
from bench.attribution import stacked, training

RECIPE = replace(training.TASK_A, batch=4, mixed=False)


def examples(count: int, seed: int = 0) -> list[IndexedExample]:
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        ids = draw.integers(4, 4_000, 12).tolist()
        found.append(IndexedExample(f"record {number}", "a", ids, [0] * 5 + [1] * 7))
    return found


@pytest.fixture(autouse=True)
def one_thread():
    """These products are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def records() -> list[IndexedExample]:
    return examples(14)


def test_each_run_is_the_one_that_it_would_be_alone(records):
    """Of different records and seeds, with a last batch that is not full."""
    queries = examples(3, seed=1)
    seeds, kept = [1, 2], [records[:6], records[7:14]]
    stack = stacked.Stack(seeds, RECIPE)
    untrained = stack.losses(queries)
    stack.train(kept, epochs=1)
    found = stack.losses(queries)
    for run, (seed, mine) in enumerate(zip(seeds, kept, strict=True)):
        alone = training.losses(training.train(mine, seed, recipe=RECIPE, epochs=1), queries)
        assert found[run] == pytest.approx(alone, abs=1e-3)
        assert training.losses(stack.network(run), queries) == pytest.approx(alone, abs=1e-3)
    assert np.abs(found - untrained).min() > 0.01


def test_in_bf16_they_are_nearly_the_same(records):
    queries = examples(3, seed=1)
    found = []
    for mixed in (False, True):
        stack = stacked.Stack([1], replace(RECIPE, mixed=mixed))
        stack.train([records[:8]], epochs=1)
        found.append(stack.losses(queries))
    assert found[1] == pytest.approx(found[0], abs=0.5)
    assert not np.array_equal(found[0], found[1])


def test_runs_of_other_lengths_are_refused(records):
    stack = stacked.Stack([1, 2], RECIPE)
    with pytest.raises(ValueError, match="same number of steps"):
        stack.train([records[:4], records[:12]])
