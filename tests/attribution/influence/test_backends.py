"""Whoever runs the passes, however many processes together: the same scores, up to rounding."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attribution.influence.backends import registry as backends  # noqa: E402
from attribution.influence.build import build, build_with  # noqa: E402
from attribution.influence.crew import Crew  # noqa: E402
from attribution.influence.curvature import whitened_gradients  # noqa: E402
from attribution.influence.errors import BackendError, UnsupportedAdapterError  # noqa: E402
from attribution.influence.index import Index  # noqa: E402
from attribution.influence.scorer import Scorer  # noqa: E402
from tests.attribution.influence.conftest import save_tiny_adapter, tiny_examples  # noqa: E402


def test_a_backend_that_is_not_installed_says_how_to_get_it(folders, config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bergson", None)
    with pytest.raises(BackendError, match=r"--no-deps bergson==2\.5\.1.*or build with.* hooks"):
        build(config, *folders, tiny_examples(), tmp_path / "index", backend="bergson")
    assert not (tmp_path / "index").exists()


def test_there_is_no_other_backend(folders):
    with pytest.raises(ValueError, match="choose of hooks, bergson"):
        backends.load("kronfluence", *folders, "cpu")


def test_processes_that_build_together_come_to_the_sums_of_one(model, config, tmp_path):
    alone = build_with(model, config, tiny_examples(), tmp_path / "alone")
    children = []
    for rank in range(2):
        if (child := os.fork()) == 0:
            status = 1
            try:
                torch.distributed.init_process_group(
                    "gloo", init_method=f"file://{tmp_path}/met", rank=rank, world_size=2
                )
                together = replace(model, crew=Crew(rank, 2))
                build_with(together, config, tiny_examples(), tmp_path / "together")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    one, two = Index.open(tmp_path / "alone"), Index.open(tmp_path / "together")
    assert two.committed_root() == two.manifest.root
    assert two.manifest.counts == alone_counts(alone)
    close(one, two)
    assert not list(tmp_path.glob(".together*"))  # what the others wrote


def alone_counts(manifest):
    return {str(group["group"]): group["count"] for group in manifest.groups}


def close(one: Index, two: Index) -> None:
    """Within what an audit calls close: gradients differ by 1e-5, and few numbers by a step."""
    assert np.array_equal(np.sort(one.coordinates), np.sort(two.coordinates))
    left, right = np.argsort(one.coordinates), np.argsort(two.coordinates)
    counts = list(one.manifest.counts.values())
    difference = np.abs(one.sums[:, left] - two.sums[:, right])
    assert (difference.max(axis=1) <= counts).all()
    assert np.abs(one.norms.astype(int) - two.norms).max() <= 66


@pytest.fixture
def bergson():
    return pytest.importorskip("bergson", reason="an optional backend")


def test_bergson_gives_the_scores_of_our_hooks(bergson, folders, model, config, tmp_path):
    build_with(model, config, tiny_examples(), tmp_path / "hooks")
    build(config, *folders, tiny_examples(), tmp_path / "bergson", backend="bergson")
    one, two = Index.open(tmp_path / "hooks"), Index.open(tmp_path / "bergson")
    close(one, two)
    theirs = backends.load("bergson", *folders, "cpu")
    assert theirs.passes is not None
    for query in tiny_examples(30)[24:]:
        ours = Scorer.of(one, model).score(query.input_ids, query.loss_mask).groups
        found = Scorer.of(two, theirs).score(query.input_ids, query.loss_mask).groups
        most = max(map(abs, ours.values()))
        assert {name: score / most for name, score in found.items()} == pytest.approx(
            {name: score / most for name, score in ours.items()}, abs=1e-3
        )


def test_bergson_gives_each_record_its_own_gradient(bergson, folders, model, config, tmp_path):
    build_with(model, config, tiny_examples(), tmp_path / "hooks")
    factors = Scorer.of(Index.open(tmp_path / "hooks"), model).factors
    theirs = backends.load("bergson", *folders, "cpu")
    examples = tiny_examples(5)
    torch.testing.assert_close(
        whitened_gradients(theirs, factors, examples),
        whitened_gradients(model, factors, examples),
        rtol=1e-4,
        atol=1e-5,
    )


def test_bergson_refuses_what_is_not_plain_lora(bergson, tmp_path):
    folders = save_tiny_adapter(tmp_path, modules_to_save=["lm_head"])
    with pytest.raises(UnsupportedAdapterError, match="trained in full"):
        backends.load("bergson", *folders, "cpu")
