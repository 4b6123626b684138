"""A recipe takes what can be trained with and says which value it refuses."""

import pytest

from modelfactory.training.recipe import Recipe, RecipeError


def test_the_defaults_are_valid_and_survive_json():
    assert Recipe.from_json(Recipe().to_json()) == Recipe()


def test_an_int_is_taken_for_a_float():
    assert Recipe.from_json({"learning_rate": 0.01, "dropout": 0}).dropout == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", True),
        ("epochs", "2"),
        ("epochs", 2.5),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", 1.0),
        ("scheduler", "zigzag"),
        ("targets", "everything"),
        ("cutoff", 1),
        ("use_dora", 1),
        ("surprise", 1),
    ],
)
def test_it_names_the_field_that_it_refuses(field, value):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json({field: value})
    assert caught.value.field == field


def test_what_was_left_at_its_default_is_fitted_to_the_base():
    small, large = (
        Recipe().suited_to(parameters=size, context=128) for size in (4_000_000, 7_000_000_000)
    )
    assert small.learning_rate > large.learning_rate
    assert small.cutoff == 128
    chosen = Recipe(learning_rate=0.01, cutoff=100)
    assert chosen.suited_to(parameters=7_000_000_000, context=64) == chosen


def test_every_field_carries_a_label_and_help():
    for field in Recipe.__dataclass_fields__.values():
        assert field.metadata["label"]
        assert field.metadata["help"].endswith(".")
