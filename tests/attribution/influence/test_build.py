"""Builds: exact sums, sketches against a dense float reference, resuming, determinism."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attribution.influence import build as build_module  # noqa: E402
from attribution.influence.build import build, build_with  # noqa: E402
from attribution.influence.config import InfluenceConfig  # noqa: E402
from attribution.influence.curvature import whitened_gradients  # noqa: E402
from attribution.influence.index import FILES, Index  # noqa: E402
from attribution.influence.scorer import Scorer  # noqa: E402
from tests.attribution.influence.conftest import tiny_examples  # noqa: E402


@pytest.fixture
def index(model, config, tmp_path):
    build_with(model, config, tiny_examples(), tmp_path / "index")
    return Index.open(tmp_path / "index")


def plain_gradients(model, examples):
    from attribution.influence.gradients import backward, make_batch, per_example

    out = torch.zeros(len(examples), model.dimension)

    def sink(number, block, activations, output_gradients):
        out[:, block.span] = per_example(activations, output_gradients).flatten(1)

    backward(model, make_batch(examples, model.device), sink, labels="true", seed=0)
    return out


def dense(model, index, examples):
    """Whitened gradients in the index's coordinates, clipped, as float64."""
    factors = Scorer.of(index, model).factors
    rows = np.stack([whitened_gradients(model, factors, [e])[0].numpy() for e in examples])
    clip = float(index.manifest.header["clip"])
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows * np.minimum(1, clip / norms))[:, index.coordinates]


def test_group_scores_are_those_of_a_dense_float_reference(model, index):
    examples = {example.record_id: example for example in tiny_examples()}
    rows = dense(model, index, [examples[entry.record_id] for entry in index.records])
    query = tiny_examples(30)[27]
    scorer = Scorer.of(index, model)
    found = scorer.score(query.input_ids, query.loss_mask).groups
    gradient = scorer.gradient(query.input_ids, query.loss_mask).astype(np.float64)
    for name, score in found.items():
        members = [row for row, entry in enumerate(index.records) if entry.group_id == name]
        expected = rows[members].sum(axis=0) @ gradient
        scale = float(index.manifest.header["clip"]) / 32_767
        tolerance = 0.02 * np.linalg.norm(gradient) * np.linalg.norm(rows[members].sum(axis=0))
        step = scorer.query(query.input_ids, query.loss_mask).step
        assert score * scale * step == pytest.approx(expected, abs=tolerance)


def test_sketch_scores_rank_records_as_the_dense_reference_does(model, index):
    examples = {example.record_id: example for example in tiny_examples()}
    rows = dense(model, index, [examples[entry.record_id] for entry in index.records])
    scorer = Scorer.of(index, model)
    agreements = []
    for query in tiny_examples(36)[24:]:
        gradient = scorer.gradient(query.input_ids, query.loss_mask).astype(np.float64)
        found = [score for _, score in scorer.score(query.input_ids, query.loss_mask).records]
        agreements.append(np.corrcoef(found, rows @ gradient)[0, 1])
    assert np.mean(agreements) > 0.8


def test_a_record_helps_its_own_answer_most(model, index):
    scorer = Scorer.of(index, model)
    hits = sum(
        scorer.score(example.input_ids, example.loss_mask).top_records(1)[0][0] == example.record_id
        for example in tiny_examples()
    )
    assert hits >= 20


def test_a_whitened_product_is_the_damped_inverse_fisher_product(model, index):
    """In one block's eigenbasis: whitening twice is dividing by the damped eigenvalues."""
    factors = Scorer.of(index, model).factors
    for rows, columns, roots in zip(
        factors.rows, factors.columns, factors.inverse_roots, strict=True
    ):
        identity = torch.eye(len(rows))
        torch.testing.assert_close(rows @ rows.T, identity, atol=1e-5, rtol=0)
        torch.testing.assert_close(columns @ columns.T, torch.eye(len(columns)), atol=1e-5, rtol=0)
        damped = 1 / roots.double().square()
        mean_damped = float(damped.mean())
        # damping is a tenth of the mean eigenvalue, so nothing is below mean / 11
        assert float(damped.min()) >= mean_damped / 11 * 0.999


def test_influence_is_the_inverse_curvature_between_two_plain_gradients(model, index):
    """Spelt out block by block: rotate, divide by the damped eigenvalues, rotate back."""
    factors = Scorer.of(index, model).factors
    one, two = tiny_examples(2)
    first, second = plain_gradients(model, [one])[0], plain_gradients(model, [two])[0]
    expected = 0.0
    for number, block in enumerate(model.blocks):
        rows, columns = factors.rows[number].double(), factors.columns[number].double()
        eigenvalues = 1 / factors.inverse_roots[number].double().square()
        rotated = rows.T @ second[block.span].view(block.rows, block.columns).double() @ columns
        solved = rows @ (rotated / eigenvalues) @ columns.T
        expected += float((first[block.span].double() * solved.flatten()).sum())
    whitened = whitened_gradients(model, factors, [one, two]).double()
    assert float(whitened[0] @ whitened[1]) == pytest.approx(expected, rel=1e-3)


def test_eigenvalues_are_the_mean_squares_of_sampled_gradients(model, config, index):
    """On the fit sample the whitened sampled gradients have the size that damping leaves them."""
    from attribution.influence.curvature import fit
    from attribution.influence.gradients import backward, make_batch, per_example

    examples = tiny_examples()
    factors = fit(model, examples, config, lambda: None)
    squares = torch.zeros(model.dimension)

    def sink(number, block, activations, output_gradients):
        rotated = (
            factors.rows[number].T
            @ per_example(activations, output_gradients)
            @ factors.columns[number]
        ) * factors.inverse_roots[number]
        squares[block.span] += rotated.square().sum(0).flatten()

    draws = 20
    for seed in range(draws):
        batch = make_batch(examples, model.device)
        backward(model, batch, sink, labels="sampled", seed=seed)
    # Lambda / (Lambda + damping) is below 1, and most of a block's weight is near it.
    mean = float((squares / (draws * len(examples))).mean())
    assert 0.3 < mean < 1.5


def test_no_record_counts_for_more_than_the_clip(model, tmp_path):
    alone = InfluenceConfig(fit_min=24, batch_tokens=48)
    build_with(model, alone, tiny_examples(24, groups=24), tmp_path / "index")
    norms = np.linalg.norm(Index.open(tmp_path / "index").sums.astype(np.float64), axis=1)
    assert np.all(norms <= 32_767 * 1.001)
    assert np.sum(norms > 32_767 * 0.999) >= 11  # those above the median are cut to it


def test_a_stopped_build_goes_on_after_its_last_shard(model, config, tmp_path, monkeypatch):
    examples = tiny_examples()
    build_with(model, config, examples, tmp_path / "whole")
    real, made = build_module.make_shard, []

    def stops_after_two(*args):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return real(*args)

    monkeypatch.setattr(build_module, "make_shard", stops_after_two)
    with pytest.raises(KeyboardInterrupt):
        build_with(model, config, examples, tmp_path / "resumed")
    again = []
    monkeypatch.setattr(build_module, "make_shard", lambda *a: again.append(1) or real(*a))
    monkeypatch.setattr(build_module.curvature, "fit", None)  # must not be fitted again
    build_with(model, config, examples, tmp_path / "resumed")
    assert len(again) == 2  # of four shards
    for name in (*FILES, "manifest.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (
            tmp_path / "resumed" / name
        ).read_bytes()


def test_a_damaged_shard_is_made_again(model, config, tmp_path, monkeypatch):
    examples, out = tiny_examples(), tmp_path / "index"

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build_module.assemble, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            build_with(model, config, examples, out)
    shard = next(out.glob("work/*/shard-000001.npz"))
    shard.write_bytes(shard.read_bytes()[:1000])
    build_with(model, config, examples, out)
    index = Index.open(out)
    assert index.committed_root() == index.manifest.root


def test_the_order_of_the_records_does_not_matter(model, config, tmp_path):
    one = build_with(model, config, tiny_examples(), tmp_path / "one")
    two = build_with(model, config, tiny_examples()[::-1], tmp_path / "two")
    assert one == two


def test_a_second_build_finds_the_finished_index(folders, config, tmp_path, monkeypatch):
    first = build(config, *folders, tiny_examples(), tmp_path / "index")
    monkeypatch.setattr(build_module, "make_shard", None)
    assert build(config, *folders, tiny_examples(), tmp_path / "index") == first


def test_the_root_commits_to_all_that_is_published(index):
    assert index.committed_root() == index.manifest.root
    assert index.manifest.counts == {f"group-{number}": 8 for number in range(3)}


def test_sums_are_exactly_the_vectors_that_the_records_commit_to(model, config, tmp_path):
    """The same records, each a group of its own, add up to the very same integers."""
    alone = InfluenceConfig(fit_min=24, shard_records=7, batch_tokens=48)
    together, apart = tiny_examples(6, groups=1), tiny_examples(6, groups=6)
    build_with(model, alone, together, tmp_path / "together")
    build_with(model, alone, apart, tmp_path / "apart")
    total = Index.open(tmp_path / "together").sums
    assert np.array_equal(total[0], Index.open(tmp_path / "apart").sums.sum(axis=0))


def test_a_narrow_budget_narrows_the_sums(model, tmp_path):
    narrow = InfluenceConfig(fit_min=12, group_budget_bytes=3 * 8 * 100, batch_tokens=48)
    manifest = build_with(model, narrow, tiny_examples(), tmp_path / "index")
    assert manifest.header["width"] == 100
    assert Index.open(tmp_path / "index").sums.shape == (3, 100)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_it_builds_and_scores_on_cuda(folders, config, tmp_path):
    examples = tiny_examples()
    build(config, *folders, examples, tmp_path / "index", device="cuda")
    index = Index.open(tmp_path / "index")
    scores = Scorer.load(index, *folders, "cuda").score(
        examples[0].input_ids, examples[0].loss_mask
    )
    on_cpu = Scorer.load(index, *folders, "cpu").score(examples[0].input_ids, examples[0].loss_mask)
    assert list(scores.groups) == list(on_cpu.groups)
    for name, score in scores.groups.items():
        assert score == pytest.approx(on_cpu.groups[name], rel=0.02, abs=1e6)
