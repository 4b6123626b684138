"""Batches: every record once an epoch, and packing changes no record's loss."""

from collections import Counter

import pytest

from modelfactory.training.data import Row, examine
from modelfactory.training.prompts import load_tokenizer
from modelfactory.training.recipe import Recipe
from tests.modelfactory.training.conftest import STARTER, payload


@pytest.fixture(scope="module")
def items():
    rows = [Row(f"r{n}", n, payload(n)) for n in range(1, 42)]
    return examine(rows, load_tokenizer(STARTER), cutoff=64)[0]


@pytest.mark.parametrize("packing", [False, True])
def test_an_epoch_holds_every_record_once(items, packing):
    from modelfactory.training.batches import plan_epoch

    recipe = Recipe(batch_size=4, cutoff=64, packing=packing)
    batches = plan_epoch(items, recipe, 0)
    seen = Counter(number for batch in batches for row in batch for number in row)
    assert seen == Counter(range(len(items)))
    lengths = [
        sum(len(items[i].example.input_ids) for i in row) for batch in batches for row in batch
    ]
    assert max(lengths) <= 64


def test_the_order_depends_on_seed_and_epoch_alone(items):
    from modelfactory.training.batches import plan_epoch

    plans = [
        plan_epoch(items, Recipe(batch_size=4, seed=seed), epoch)
        for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
    assert plans[0] != plans[3]


def test_packing_gives_every_record_the_loss_that_it_has_alone(items, tiny_base):
    import torch
    from transformers import AutoModelForCausalLM

    from modelfactory.training.batches import collate

    model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()

    def summed(rows):
        batch = collate(rows, items, 0)
        mask = batch.attention_mask
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=mask.to(model.dtype if mask.ndim == 4 else torch.long),
            position_ids=batch.position_ids,
        ).logits
        return torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum"
        )

    with torch.inference_mode():
        alone = sum(summed([[i]]) for i in range(6))
        packed = summed([[0, 1, 2], [3, 4, 5]])
    assert torch.allclose(alone, packed, rtol=1e-5)
