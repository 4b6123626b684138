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
