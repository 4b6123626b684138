"""Exact influence of records that a model's parents learnt from, through what was made of them."""

import json

import pytest

torch = pytest.importorskip("torch")

from attribution.influence import exact, lineage  # noqa: E402
from attribution.influence.errors import ReplayError  # noqa: E402
from modelfactory.training import train  # noqa: E402
from modelfactory.training.job import Job  # noqa: E402
from modelfactory.training.parents import read_parent  # noqa: E402
from tests.attribution.influence.test_exact import (  # noqa: E402
    ANSWER,
    SMOOTH,
    STEP,
    TOLERANCE,
    base,
    prepared,
)
from tests.attribution.world import payload  # noqa: E402

__all__ = ["base"]
RECIPE = {"batch_size": 4, "cutoff": 48, "epochs": 2, "learning_rate": 0.01}


def write_job(folder, base, topic, *, parents=(), is_merge=False, **recipe):
    """Eight records of their own, and one that all topics share."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"record": f"{topic}{n}", "payload": payload(topic, n)} for n in range(8)]
    lines.append({"record": "shared", "payload": payload("stair", 1)})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "records.jsonl").write_text(text)
    told = Job(str(base), "openledger/tiny", RECIPE | recipe, parents=parents, is_merge=is_merge)
    told.write(folder)
    return folder


def trained(folder, weights, start=None):
    """The model in double precision, where each record counts as ``weights`` say; from ``start``,
    parameters by name, in place of the parents' files."""
    training = prepared(folder, torch.float64, SMOOTH)
    named = dict(training.model.named_parameters())
    with torch.no_grad():
        for name, value in (start or {}).items():
            named[name].copy_(value)
    for passes in (passes for epoch in training.schedule for passes in epoch):
        batches = [train.collate(rows, training.training, training.pad) for rows in passes]
        predicted = sum(batch.predicted for batch in batches)
        for group in training.optimizer.param_groups:
            group["lr"] = train.learning_rate(
                training.progress.step, training.steps, training.recipe
            )
        for rows, batch in zip(passes, batches, strict=True):
            counted = [
                weights.get(training.training[number].record, 1.0) for row in rows for number in row
            ]
            counts = torch.tensor(counted, dtype=torch.float64)
            (exact.weighted_loss(training, rows, batch, counts) / predicted).backward()
        parameters = [p for p in named.values() if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(parameters, training.recipe.max_gradient_norm)
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        training.progress.step += 1
    return training


def adapter(training):
    named = training.model.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def publish(folder, to):
    train.save_adapter(trained(folder, {}).model, to)


@pytest.fixture
def double(monkeypatch):
    """Runs in double precision, in which no adapter comes out to the bit of a file."""
    monkeypatch.setattr(
        lineage, "prepare", lambda folder, job: prepared(folder, torch.float64, SMOOTH)
    )
    monkeypatch.setattr(exact, "_adapter_sha256", lambda training: "same")
    monkeypatch.setattr(lineage, "file_sha256", lambda path: "same")


def differences(loss, records):
    """What training with other weights says of each record."""
    return {
        record: (loss({record: 1 - STEP}) - loss({record: 1 + STEP})) / (2 * STEP)
        for record in records
    }


def agrees(found, true):
    largest = max(abs(value) for value in found.values())
    assert largest > 0
    for record, value in true.items():
        assert found[record] == pytest.approx(value, abs=TOLERANCE * largest), record


@pytest.mark.parametrize("recipe", [{"rank": 2}, {"rank": 2, "use_dora": True}], ids=["", "DoRA"])
def test_a_model_trained_further_leads_to_the_records_of_the_first(tmp_path, base, double, recipe):
    child = write_job(tmp_path, base, "window", parents=(10_000,), **recipe)
    parent = write_job(child / "parents" / "0" / "run", base, "door", **recipe)
    publish(parent, child / "parents" / "0")

    def loss(weights):
        start = adapter(trained(parent, weights))
        return exact.of_answer(trained(child, weights, start), ANSWER)[0]

    beats = []
    found = lineage.exact_influences_through(
        child, ANSWER, "same", lambda done, total: beats.append((done, total))
    )
    assert found.steps == 8
    assert beats[-1] == (24, 24)
    assert all(done <= total for done, total in beats)
    agrees(found.influences, differences(loss, ["door2", "door5", "window3", "shared"]))
    assert any(abs(found.influences[f"door{n}"]) > 0 for n in range(8))


def test_a_merge_leads_to_the_records_of_each_parent_by_its_weight(tmp_path, base, double):
    ranks, weights_of = (2, 3), (7_000, 3_000)
    merged = write_job(tmp_path, base, "held", parents=weights_of, is_merge=True, rank=5, alpha=5)
    runs = []
    for place, (rank, topic) in enumerate(zip(ranks, ("door", "window"), strict=True)):
        above = merged / "parents" / str(place)
        runs.append(write_job(above / "run", base, topic, rank=rank, alpha=4))
        publish(runs[-1], above)
    scales = [read_parent(merged / f"parents/{n}", 0).scale for n in range(2)]

    def loss(weights):
        made = [adapter(trained(run, weights)) for run in runs]
        start = {}
        for name in made[0]:
            if ".lora_A." in name:
                start[name] = torch.cat([one[name] for one in made], dim=0)
            else:
                factors = zip(made, weights_of, scales, strict=True)
                parts = [one[name] * (weight / 10_000) * scale for one, weight, scale in factors]
                start[name] = torch.cat(parts, dim=1)
        return exact.of_answer(trained(merged, {}, start), ANSWER)[0]

    found = lineage.exact_influences_through(merged, ANSWER, "same")
    agrees(found.influences, differences(loss, ["door2", "door5", "window3", "window6", "shared"]))
    assert not any(record.startswith("held") for record in found.influences)


def test_a_parent_that_does_not_come_to_its_published_adapter_is_refused(tmp_path, base):
    child = write_job(tmp_path, base, "window", parents=(10_000,), rank=2)
    parent = write_job(child / "parents" / "0" / "run", base, "door", rank=2)
    training = prepared(parent)
    for passes in (passes for epoch in training.schedule for passes in epoch):
        exact.forward(training, passes)
    train.save_adapter(training.model, child / "parents" / "0")
    training = prepared(child)
    for passes in (passes for epoch in training.schedule for passes in epoch):
        exact.forward(training, passes)
    true = exact._adapter_sha256(training)
    assert len(lineage.exact_influences_through(child, ANSWER, true).influences) > 8
    lines = (parent / "records.jsonl").read_text().replace("door 3", "door 4")
    (parent / "records.jsonl").write_text(lines)
    with pytest.raises(ReplayError, match="not those of then"):
        lineage.exact_influences_through(child, ANSWER, true)
