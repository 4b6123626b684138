"""The estimate counts what PEFT will make, and grows with what is asked."""

import json

import pytest

from modelfactory.training.estimate import Shape, estimate, trainable_parameters
from modelfactory.training.recipe import Recipe
from tests.modelfactory.training.conftest import STARTER

CONFIG = json.loads((STARTER / "config.json").read_text())
SHAPE = Shape.from_config(CONFIG, parameters=4_000_000)


@pytest.mark.parametrize("targets", ["all-linear", "attention", "mlp"])
@pytest.mark.parametrize("use_dora", [False, True])
def test_it_counts_the_parameters_that_peft_trains(targets, use_dora):
    from transformers import AutoConfig, AutoModelForCausalLM

    from modelfactory.training.adapters import adapt
    from modelfactory.training.job import Job

    recipe = Recipe(targets=targets, use_dora=use_dora, rank=4)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(STARTER))
    adapted = adapt(model, Job(base_folder="", base_name="x", recipe={}), recipe)
    counted = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trainable_parameters(SHAPE, recipe) == counted


def of(**recipe):
    return estimate(shape=SHAPE, lengths=[100] * 400, recipe=Recipe(**recipe))


def test_more_epochs_take_longer_and_larger_batches_more_memory():
    assert of(epochs=4).seconds_high > of(epochs=1).seconds_high
    assert of(batch_size=64).memory_bytes > of(batch_size=4).memory_bytes


def test_a_measured_speed_narrows_the_range():
    guess = of()
    known = estimate(shape=SHAPE, lengths=[100] * 400, recipe=Recipe(), tokens_per_second=3000)
    assert known.measured
    width = [e.seconds_high / e.seconds_low for e in (guess, known)]
    assert width[1] < width[0]


def test_every_state_of_the_run_is_kept_and_indexed_and_costs_as_much_again():
    one, four = of(), of(checkpoints=4)
    assert (one.states, one.kept_bytes) == (1, one.adapter_bytes)
    assert (four.states, four.kept_bytes) == (4, 4 * four.adapter_bytes)
    assert four.index_seconds_high == pytest.approx(4 * one.index_seconds_high, abs=4)
    assert four.index_seconds_low == pytest.approx(4 * one.index_seconds_low, abs=4)
    # They are copies that are put aside: the training itself is what it was.
    assert (four.seconds_high, four.memory_bytes) == (one.seconds_high, one.memory_bytes)


def test_an_index_reads_a_large_run_once_and_little_more():
    """Its sample ends at 2,048 records, so it costs less than twice a pass."""
    few = estimate(shape=SHAPE, lengths=[100] * 400, recipe=Recipe(), tokens_per_second=1000)
    many = estimate(shape=SHAPE, lengths=[100] * 40_000, recipe=Recipe(), tokens_per_second=1000)
    middle = [(one.index_seconds_low * one.index_seconds_high) ** 0.5 for one in (few, many)]
    share = 1 - Recipe().validation_fraction
    assert middle[0] == pytest.approx(1.75 * 40_000 * share / 1000, rel=0.02)
    assert middle[1] == pytest.approx((1 + 3 * 2048 / (40_000 * share)) * 4_000 * share, rel=0.02)
