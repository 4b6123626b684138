"""The baselines are what their papers say, computed here the slow way."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attribution.influence.baselines import (  # noqa: E402
    BM25,
    BlockFisher,
    DataInf,
    GradientDot,
    HiddenStates,
    Random,
    TracIn,
    group_scores,
    plain_gradients,
)
from attribution.influence.examples import IndexedExample  # noqa: E402
from attribution.influence.model import load  # noqa: E402
from tests.attribution.influence.conftest import save_tiny_adapter, tiny_examples  # noqa: E402

RECORDS = tiny_examples(12)
QUERY = tiny_examples(1, seed=3)[0]


def slow_gradient(model, example) -> np.ndarray:
    weights = [block.module.weight for block in model.blocks]
    for weight in weights:
        weight.requires_grad_(True)
    ids = torch.tensor([example.input_ids])
    logits = model.network(input_ids=ids).logits[0, :-1]
    targets = torch.tensor(example.loss_mask[1:]) > 0
    loss = torch.nn.functional.cross_entropy(logits[targets], ids[0, 1:][targets], reduction="sum")
    found = torch.autograd.grad(loss, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return torch.cat([part.flatten() for part in found]).double().numpy()


@pytest.fixture(scope="module")
def slow(model):
    return np.array([slow_gradient(model, one) for one in RECORDS]), slow_gradient(model, QUERY)


def fitted(method):
    method.fit(RECORDS)
    return method


def test_gradient_dot_is_the_product_of_two_gradients(model, slow):
    records, query = slow
    assert fitted(GradientDot(model)).scores(QUERY) == pytest.approx(records @ query, rel=1e-3)


def test_tracin_adds_checkpoints_up_by_their_rates(model, slow, tmp_path):
    other = load(*save_tiny_adapter(tmp_path, seed=2), "cpu")
    records, query = slow
    theirs = np.array([slow_gradient(other, one) for one in RECORDS]) @ slow_gradient(other, QUERY)
    found = fitted(TracIn([(model, 0.5), (other, 2.0)])).scores(QUERY)
    assert found == pytest.approx(0.5 * records @ query + 2 * theirs, rel=1e-3, abs=1e-2)


def test_block_fisher_is_the_damped_inverse_of_whole_blocks(model, slow):
    records, query = slow
    sampled = plain_gradients(model, RECORDS, labels="sampled", seed=0).astype(np.float64)
    assert not np.allclose(sampled, records, atol=1e-3)
    expected = np.zeros(len(records))
    for block in model.blocks:
        rows = sampled[:, block.span]
        fisher = rows.T @ rows / len(rows)
        damped = fisher + 3.0 * np.trace(fisher) / block.size * np.eye(block.size)
        expected += records[:, block.span] @ np.linalg.inv(damped) @ query[block.span]
    found = fitted(BlockFisher(model)).scores(QUERY)
    assert found == pytest.approx(expected, rel=1e-2, abs=1e-2 * np.abs(expected).max())


def test_datainf_is_the_mean_of_damped_inverses(model, slow):
    records, query = slow
    expected = np.zeros(len(records))
    for block in model.blocks:
        rows, asked = records[:, block.span], query[block.span]
        damping = 0.1 * np.square(rows).mean()
        inverses = [np.linalg.inv(np.outer(row, row) + damping * np.eye(len(row))) for row in rows]
        expected += rows @ np.mean(inverses, axis=0) @ asked
    assert fitted(DataInf(model)).scores(QUERY) == pytest.approx(expected, rel=5e-3, abs=1e-1)


def test_hidden_states_find_the_same_text(model):
    scores = fitted(HiddenStates(model)).scores(RECORDS[7])
    assert scores.argmax() == 7
    assert scores[7] == pytest.approx(1, abs=1e-5)
    assert np.all(scores <= 1 + 1e-5)


def test_bm25_prefers_rare_words_in_short_records():
    texts = {"long": [1] * 20 + [9], "short": [1, 9], "without": [1, 2]}
    method = BM25()
    method.fit([IndexedExample(name, "g", ids, [1] * len(ids)) for name, ids in texts.items()])
    long, short, without = method.scores(IndexedExample("q", "g", [9, 30], [0, 1]))
    assert short > long > without == 0


def test_random_knows_only_its_seed():
    one, two = fitted(Random(4)), fitted(Random(4))
    assert np.array_equal(one.scores(QUERY), two.scores(RECORDS[0]))


def test_a_groups_score_is_the_sum_over_its_records(model):
    scores = np.arange(12.0)
    assert group_scores(scores, RECORDS) == {"group-0": 18.0, "group-1": 22.0, "group-2": 26.0}


def test_what_is_kept_is_told(model):
    assert fitted(GradientDot(model)).bytes_per_record == plain_gradients(model, RECORDS)[0].nbytes
    assert fitted(HiddenStates(model)).bytes_per_record == 4 * 16
    assert fitted(Random()).bytes_per_record == 0
