"""Per-example gradients by hooks are what autograd gives for each example alone."""

from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from attribution.influence.gradients import (  # noqa: E402
    backward,
    batches,
    make_batch,
    per_example,
)
from attribution.influence.model import load  # noqa: E402
from tests.attribution.influence.conftest import save_tiny_adapter, tiny_examples  # noqa: E402


def gradients_by_hooks(model, examples):
    out = torch.zeros(len(examples), model.dimension)

    def sink(number, block, activations, output_gradients):
        out[:, block.span] = per_example(activations, output_gradients).flatten(1)

    backward(model, make_batch(examples, model.device), sink, labels="true", seed=0)
    return out


def gradient_by_autograd(model, example):
    weights = [block.module.weight.requires_grad_(True) for block in model.blocks]
    ids = torch.tensor([example.input_ids])
    logits = model.network(input_ids=ids, use_cache=False).logits[0, :-1]
    losses = functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    loss = (losses * torch.tensor(example.loss_mask[1:])).sum()
    found = torch.autograd.grad(loss, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return torch.cat([gradient.flatten() for gradient in found])


@pytest.mark.parametrize("lora", [{}, {"use_dora": True}, {"use_rslora": True, "r": 2}])
def test_a_padded_batch_gives_each_examples_own_gradient(tmp_path, lora):
    model = load(*save_tiny_adapter(tmp_path, **lora), "cpu")
    examples = tiny_examples(6)
    found = gradients_by_hooks(model, examples)
    for row, example in zip(found, examples, strict=True):
        expected = gradient_by_autograd(model, example)
        assert expected.norm() > 1e-3
        torch.testing.assert_close(row, expected, rtol=0, atol=2e-5 * float(expected.norm()))


def test_the_same_batch_gives_the_same_bits(model):
    examples = tiny_examples(6)
    assert torch.equal(gradients_by_hooks(model, examples), gradients_by_hooks(model, examples))


def test_sampled_labels_depend_on_the_seed_alone(model):
    batch = make_batch(tiny_examples(5), model.device)

    def moments(seed):
        total = torch.zeros(model.dimension)

        def sink(number, block, activations, output_gradients):
            total[block.span] = per_example(activations, output_gradients).sum(0).flatten()

        backward(model, batch, sink, labels="sampled", seed=seed)
        return total

    assert torch.equal(moments(1), moments(1))
    assert not torch.equal(moments(1), moments(2))


def test_the_hooks_leave_nothing_behind(model):
    gradients_by_hooks(model, tiny_examples(2))
    assert all(not block.module._forward_hooks for block in model.blocks)
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_batches_hold_every_place_once_within_the_budget():
    lengths = [5, 30, 7, 7, 1, 12, 40]
    made = list(batches(lengths, range(7), 32))
    assert sorted(place for batch in made for place in batch) == list(range(7))
    cost = partial(max, default=0)
    assert all(
        len(batch) == 1 or len(batch) * cost(lengths[place] for place in batch) <= 32
        for batch in made
    )


def test_two_threads_do_not_see_each_others_gradients(model):
    from concurrent.futures import ThreadPoolExecutor

    examples = [tiny_examples(4, seed=seed) for seed in range(6)]
    alone = [gradients_by_hooks(model, few) for few in examples]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda few: gradients_by_hooks(model, few), examples))
    assert all(torch.equal(one, two) for one, two in zip(alone, together, strict=True))
