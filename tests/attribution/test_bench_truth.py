"""The committed truth is whole, and fits the task that it is about."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.attribution import task, training, truth


@pytest.fixture(scope="module")
def known() -> truth.Truth:
    return truth.Truth.load()


def test_every_half_has_half_of_every_contributor(known):
    by_contributor = known.halves.reshape(len(known.halves), len(task.CONTRIBUTORS), task.RECORDS)
    assert np.all(by_contributor.sum(axis=2) == task.RECORDS // 2)
    assert len({row.tobytes() for row in known.halves}) == len(known.halves) >= 48


def test_every_retraining_has_a_loss_for_every_query(known):
    asked = task.QUERIES * len(task.CONTRIBUTORS) + truth.GENERATED
    seeds = known.leave_losses.shape[1]
    assert known.half_losses.shape[2] == asked
    assert known.leave_losses.shape == (len(task.CONTRIBUTORS), seeds, asked)
    assert known.full_losses.shape == (seeds, asked)
    for losses in (known.half_losses, known.leave_losses, known.full_losses):
        assert np.isfinite(losses).all()
        assert losses.min() > 0


def test_seeds_agree_far_better_than_chance(known):
    """Else the truth were noise."""
    effects = known.leave_losses - known.full_losses
    first, second = effects[:, 0].ravel(), effects[:, 1].ravel()
    assert np.corrcoef(first, second)[0, 1] > 0.5


def test_another_edition_of_the_text_is_noticed(known):
    def example(name: str):
        return SimpleNamespace(content_hash=name + "rest of the hash")

    made = SimpleNamespace(
        records=[example(name) for name in known.records],
        queries=[example(name) for name in known.queries],
    )
    known.check(made)
    made.records[7] = example("0" * 16)
    with pytest.raises(ValueError, match="records of this folder are not those"):
        known.check(made)


def test_generated_answers_are_tokens_of_the_model(known):
    assert len(known.generated) == truth.GENERATED
    size = training.architecture().vocab_size
    assert all(answer and max(answer) < size for answer in known.generated)
