"""Influence averaged over checkpoints: what is added up, what is bound, what is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from attribution.influence.audit import audit  # noqa: E402
from attribution.influence.build import build, build_with  # noqa: E402
from attribution.influence.checkpoints import (  # noqa: E402
    State,
    as_indexed,
    averaged,
    weights_of,
)
from attribution.influence.config import InfluenceConfig  # noqa: E402
from attribution.influence.curvature import Factors, whitened_gradients  # noqa: E402
from attribution.influence.errors import AdapterMismatchError, InfluenceError  # noqa: E402
from attribution.influence.index import Index, IndexManifest  # noqa: E402
from attribution.influence.model import ADAPTER_FILE, load  # noqa: E402
from attribution.influence.revise import append, remove  # noqa: E402
from attribution.influence.scorer import Scorer  # noqa: E402
from tests.attribution.influence.conftest import save_tiny_adapter, tiny_examples  # noqa: E402

QUERY = tiny_examples(30)[27]


@pytest.fixture(scope="module")
def states(folders, tmp_path_factory) -> list[State]:
    """Half of the way to the adapter, then the adapter."""
    folder = tmp_path_factory.mktemp("states")
    weights = load_file(folders[1] / ADAPTER_FILE)
    save_file({name: 0.5 * tensor for name, tensor in weights.items()}, folder / "half.safetensors")
    return [State(folder / "half.safetensors", 3.0), State(folders[1] / ADAPTER_FILE, 1.0)]


@pytest.fixture
def over_two(config) -> InfluenceConfig:
    return replace(config, checkpoints=2)


@pytest.fixture
def built(folders, over_two, states, tmp_path):
    build(over_two, *folders, tiny_examples(), tmp_path / "index", states=states)
    index = Index.open(tmp_path / "index")
    return index, Scorer.load(index, *folders, "cpu", [states[0].path])


def half_way(folders, states, tmp_path):
    """The adapter of the first state as a model of its own."""
    folder = tmp_path / "half"
    shutil.copytree(folders[1], folder)
    shutil.copyfile(states[0].path, folder / ADAPTER_FILE)
    return load(folders[0], folder, "cpu")


def test_scores_are_the_weighted_mean_of_those_at_each_state(built, folders, states, tmp_path):
    scorer = built[1]
    assert scorer.model.whole_dimension == 2 * scorer.model.dimension
    alone = [load(*folders, "cpu"), half_way(folders, states, tmp_path)]
    factors = [scorer.factors, *scorer.factors.earlier]
    expected = np.zeros(len(tiny_examples()))
    for model, own, weight in zip(alone, factors, (0.25, 0.75), strict=True):
        rows = np.concatenate([whitened_gradients(model, own, [e]) for e in tiny_examples()])
        expected += weight * rows @ whitened_gradients(model, own, [QUERY])[0].numpy()
    rows = np.concatenate(
        [whitened_gradients(scorer.model, scorer.factors, [e]) for e in tiny_examples()]
    )
    found = rows @ whitened_gradients(scorer.model, scorer.factors, [QUERY])[0].numpy()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_published_adapter_stands_again_after_a_gradient_at_a_checkpoint(built, folders):
    scorer = built[1]
    before = {n: p.clone() for n, p in scorer.model.network.named_parameters()}
    scorer.score(QUERY.input_ids, QUERY.loss_mask)
    for name, parameter in scorer.model.network.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_the_root_binds_every_checkpoint_and_its_weight(built, folders, over_two, states, tmp_path):
    header = built[0].manifest.header
    assert [one["weight"] for one in header["checkpoints"]] == ["0.75", "0.25"]
    assert header["checkpoints"][-1]["adapter_sha256"] == header["adapter_sha256"]
    assert header["parameters"]["checkpoints"] == 2
    even = replace(over_two, checkpoint_weights="even")
    other = build(even, *folders, tiny_examples(), tmp_path / "even", states=states)
    assert other.root != built[0].manifest.root
    moved = {**header, "checkpoints": header["checkpoints"][::-1]}
    path = tmp_path / "moved.json"
    path.write_bytes(replace(built[0].manifest, header=moved).to_bytes())
    with pytest.raises(InfluenceError, match="root"):
        IndexManifest.read(path)


def test_one_checkpoint_says_nothing_of_checkpoints(model, config, tmp_path):
    header = build_with(model, config, tiny_examples(), tmp_path / "index").header
    assert not [name for name in (*header, *header["parameters"]) if "checkpoint" in name]


def test_shared_factors_are_fitted_once(folders, over_two, states, tmp_path):
    shared = replace(over_two, checkpoint_factors="last")
    build(shared, *folders, tiny_examples(), tmp_path / "index", states=states)
    factors = Factors.load(tmp_path / "index" / "factors.npz", torch.device("cpu"))
    assert not factors.earlier
    index = Index.open(tmp_path / "index")
    scorer = Scorer.load(index, *folders, "cpu", [states[0].path])
    assert any(scorer.score(QUERY.input_ids, QUERY.loss_mask).groups.values())


def test_appended_and_removed_records_are_as_in_a_build(built, over_two, tmp_path):
    index, scorer = built
    more = [replace(e, record_id=f"more-{e.record_id}") for e in tiny_examples(4, seed=9)]
    append(scorer.model, index, over_two, more, tmp_path / "more")
    larger = Index.open(tmp_path / "more")
    assert larger.manifest.header["checkpoints"] == index.manifest.header["checkpoints"]
    again = Scorer.of(larger, scorer.model)
    touched = {e.group_id for e in more}
    left = [e for e in tiny_examples() if e.group_id in touched]
    gone = [e.record_id for e in more]
    remove(again.model, larger, over_two, gone, left, tmp_path / "less")
    assert np.array_equal(Index.open(tmp_path / "less").sums, index.sums)


def test_an_audit_makes_the_same_gradients_again(built, over_two):
    index, scorer = built
    examples = {e.record_id: e for e in tiny_examples()}
    names = [entry.record_id for entry in index.records][:4]
    found = audit(scorer, over_two, examples, names, "group-1")
    assert found.holds
    scorer.model.checkpoints[0].parameters[next(iter(scorer.model.checkpoints[0].parameters))].mul_(
        1.5
    )
    assert not audit(scorer, over_two, examples, names, "group-1").holds


def test_an_index_over_checkpoints_is_refused_without_them(built, folders, states):
    index = built[0]
    with pytest.raises(AdapterMismatchError, match="which is not here"):
        Scorer.load(index, *folders, "cpu")
    with pytest.raises(AdapterMismatchError, match="other checkpoints"):
        Scorer.of(index, load(*folders, "cpu"))


def test_states_that_do_not_fit_are_refused(folders, over_two, states, tmp_path):
    model = load(*folders, "cpu")
    with pytest.raises(InfluenceError, match="has kept 1"):
        averaged(model, states[1:], over_two)
    with pytest.raises(AdapterMismatchError, match="not the published"):
        averaged(model, states[::-1], over_two)
    with pytest.raises(InfluenceError, match="2 checkpoints"):
        build_with(model, over_two, tiny_examples(), tmp_path / "index")
    _, wider = save_tiny_adapter(tmp_path, r=4)
    strange = [State(wider / ADAPTER_FILE, 1.0), states[1]]
    with pytest.raises(AdapterMismatchError, match="of its shape"):
        averaged(model, strange, over_two)
    with pytest.raises(InfluenceError, match="learning rates"):
        weights_of([0.0, 0.0], "rates")


def test_doras_magnitudes_stand_at_the_checkpoint_too(tmp_path, config):
    base, adapter = save_tiny_adapter(tmp_path, use_dora=True)
    weights = load_file(adapter / ADAPTER_FILE)
    save_file({n: 0.9 * t for n, t in weights.items()}, tmp_path / "early.safetensors")
    model = load(base, adapter, "cpu")
    states = [State(tmp_path / "early.safetensors", 1.0), State(adapter / ADAPTER_FILE, 1.0)]
    there = averaged(model, states, replace(config, checkpoints=2)).checkpoints[0].parameters
    assert any("magnitude" in name for name in there)
    assert as_indexed(model, {}, []) is model
