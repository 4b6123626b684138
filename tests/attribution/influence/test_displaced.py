"""The benchmark's steps about an adapter: the loss's slope is first order, and all stands again."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attribution.influence.build import build_with  # noqa: E402
from attribution.influence.checkpoints import adapter_parameters  # noqa: E402
from attribution.influence.curvature import whitened_gradients  # noqa: E402
from attribution.influence.gradients import make_batch  # noqa: E402
from attribution.influence.index import Index  # noqa: E402
from attribution.influence.scorer import Scorer  # noqa: E402
from bench.attribution.displaced import around_steps, at_step, moved_by  # noqa: E402
from tests.attribution.influence.conftest import tiny_examples  # noqa: E402


@pytest.fixture
def scorer(model, config, tmp_path):
    build_with(model, config, tiny_examples(), tmp_path / "index")
    return Scorer.of(Index.open(tmp_path / "index"), model)


def test_slopes_and_second_derivatives_along_a_step_are_those_of_the_loss(scorer):
    model, queries = scorer.model, tiny_examples(4, seed=3)
    records = whitened_gradients(model, scorer.factors, tiny_examples()).numpy()
    steps = np.stack([records[:8].sum(axis=0), records[8:].sum(axis=0)]).astype(np.float32) / 24
    before = {name: p.clone() for name, p in adapter_parameters(model.network).items()}
    found = around_steps(scorer, queries, steps)
    first = whitened_gradients(model, scorer.factors, queries).numpy() @ steps.T
    assert found.slope == pytest.approx(first, rel=0.05, abs=float(0.05 * np.abs(first).max()))
    for name, parameter in adapter_parameters(model.network).items():
        assert torch.equal(parameter, before[name])

    there = moved_by(model, scorer.factors, steps[0])
    towards = {name: there[name] - before[name] for name in there}
    batch = make_batch(queries[:1], model.device)

    def loss(length: float) -> float:
        with at_step(scorer, np.float32(length) * steps[0]), torch.inference_mode():
            logits = model.network(input_ids=batch.ids).logits[0, :-1].double()
        wanted = batch.targets[0, 1:] > 0
        told = logits[wanted].log_softmax(-1).gather(1, batch.ids[0, 1:][wanted][:, None])
        return -float(told.sum())

    reach = 0.05
    bent = (loss(reach) + loss(-reach) - 2 * loss(0.0)) / (2 * reach**2)
    largest = np.abs(found.hessian).max()
    assert found.hessian[0, 0] == pytest.approx(bent, rel=0.1, abs=float(0.1 * largest))
    assert (found.gauss_newton >= 0).all()
    assert sum(float(change.square().sum()) for change in towards.values()) > 0
