"""Exact influence: what a small change of a record's weight does to an answer's loss."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from attribution.influence import exact, exact_job  # noqa: E402
from attribution.influence.errors import ReplayError  # noqa: E402
from attribution.influence.examples import IndexedExample  # noqa: E402
from attribution.influence.index import file_sha256  # noqa: E402
from modelfactory.training import train  # noqa: E402
from modelfactory.training.job import (  # noqa: E402
    Exit,
    Job,
    Kind,
    read_events,
    write_json,
)
from tests.attribution.world import STARTER, payload  # noqa: E402

ANSWER = IndexedExample("q", "q", [5, 9, 300, 41, 7, 12], [0, 0, 0, 1, 1, 1])
STEP = 1e-4  # of a weight
TOLERANCE = 1e-3  # of the largest influence
# With AdamW's own 1e-8 a step depends on the sign of a gradient that is nearly zero, and a finite
# difference that is large enough to be told from rounding is large enough to turn one.
SMOOTH = 1e-3


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """GPT-2's layers compute in the precision that they are given; Llama's norms do not."""
    import shutil

    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=4096, n_embd=16, n_layer=1, n_head=2, n_positions=128,
            initializer_range=0.2, bos_token_id=1, eos_token_id=2, **dropouts,
        )
    ).save_pretrained(folder)  # fmt: skip
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STARTER / name, folder / name)
    return folder


@pytest.fixture
def job(base, tmp_path):
    """A job's folder, of 12 records and 9 steps where nothing else is said."""

    def make(**recipe) -> Path:
        with (tmp_path / "records.jsonl").open("w") as out:
            for number in range(12):
                line = {"record": f"r{number}", "payload": payload("door", number)}
                out.write(json.dumps(line) + "\n")
        wanted = {"batch_size": 4, "cutoff": 48, "epochs": 3, "rank": 2, "learning_rate": 0.01}
        Job(str(base), "openledger/tiny", wanted | recipe).write(tmp_path)
        return tmp_path

    return make


def prepared(folder, dtype=torch.float32, eps=1e-8):
    torch.set_num_threads(1)
    training = train.prepare(folder, Job.read(folder))
    training.model.to(dtype)
    training.optimizer.param_groups[0]["eps"] = eps
    return training


def published(folder) -> str:
    """What the trainer itself publishes."""
    training = prepared(folder)
    for passes in (passes for epoch in training.schedule for passes in epoch):
        exact.forward(training, passes)
    train.save_adapter(training.model, folder / "adapter")
    return file_sha256(folder / "adapter" / "adapter_model.safetensors")


def loss_with(folder, record, weight, monkeypatch) -> float:
    """The answer's loss, in double precision, where training counts one record otherwise."""
    training = prepared(folder, torch.float64, SMOOTH)
    rows_of = {}

    def collate(rows, items, pad):
        batch = real_collate(rows, items, pad)
        rows_of[id(batch.input_ids)] = rows
        return batch

    def batch_loss(state, batch):
        rows = rows_of[id(batch.input_ids)]
        names = [state.training[number].record for row in rows for number in row]
        weights = torch.tensor(
            [weight if name == record else 1.0 for name in names], dtype=torch.float64
        )
        return exact.weighted_loss(state, rows, batch, weights)

    real_collate = train.collate
    with monkeypatch.context() as patch:
        patch.setattr(train, "collate", collate)
        patch.setattr(train, "batch_loss", batch_loss)
        for passes in (passes for epoch in training.schedule for passes in epoch):
            exact.forward(training, passes)
    return exact.of_answer(training, ANSWER)[0]


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"max_gradient_norm": 0.05, "weight_decay": 0.1, "scheduler": "linear"},
        {"packing": True, "gradient_accumulation": 2, "batch_size": 2, "dropout": 0.2},
        {"use_dora": True},
        {"use_dora": True, "gradient_accumulation": 2, "batch_size": 2, "dropout": 0.2},
    ],
    ids=["plain", "clipped", "packed, dropped, in passes", "DoRA", "DoRA, dropped, in passes"],
)
def test_an_influence_is_what_training_with_another_weight_gives(job, recipe, monkeypatch):
    folder = job(**recipe)
    training = prepared(folder, torch.float64, SMOOTH)
    monkeypatch.setattr(exact, "_adapter_sha256", lambda training: "same")
    found = exact.exact_influences(training, ANSWER, "same")
    largest = max(abs(value) for value in found.influences.values())
    assert largest > 0
    for record in list(found.influences)[::3]:
        more = loss_with(folder, record, 1 + STEP, monkeypatch)
        less = loss_with(folder, record, 1 - STEP, monkeypatch)
        true = (less - more) / (2 * STEP)
        assert found.influences[record] == pytest.approx(true, abs=TOLERANCE * largest)


def test_single_precision_comes_to_the_same(job, monkeypatch):
    folder = job()
    monkeypatch.setattr(exact, "_adapter_sha256", lambda training: "same")
    one = exact.exact_influences(prepared(folder), ANSWER, "same").influences
    two = exact.exact_influences(prepared(folder, torch.float64), ANSWER, "same").influences
    largest = max(abs(value) for value in two.values())
    assert one == pytest.approx(two, abs=0.02 * largest)


def test_a_run_that_gives_another_adapter_is_refused(job):
    folder = job()
    true = published(folder)
    beats = []
    found = exact.exact_influences(
        prepared(folder), ANSWER, true, lambda done, total: beats.append((done, total))
    )
    assert found.adapter_sha256 == true
    assert set(found.influences) == {item.record for item in prepared(folder).training}
    assert beats[-1] == (27, 27)
    lines = (folder / "records.jsonl").read_text().replace("door 3", "door 4").splitlines()
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ReplayError, match="not those of then"):
        exact.exact_influences(prepared(folder), ANSWER, true)


def test_what_has_no_exact_influence_says_so(job):
    training = prepared(job())
    training.job = replace(training.job, is_merge=True)
    with pytest.raises(ReplayError, match="merge"):
        exact.exact_influences(training, ANSWER, "")


def test_whole_numbers_keep_the_proportions():
    assert exact.as_integers({"a": 1.0, "b": -0.5, "c": 0.0}) == {"a": 2**40, "b": -(2**39), "c": 0}
    assert exact.as_integers({"a": 0.0}) == {"a": 0}


def test_the_job_tells_how_far_it_is_and_why_it_failed(job, monkeypatch):
    folder = job()
    monkeypatch.setattr(exact_job, "Stop", lambda: False)
    asked = {"input_ids": ANSWER.input_ids, "loss_mask": ANSWER.loss_mask}
    write_json(folder / "answer.json", asked | {"adapter_sha256": published(folder)})
    assert exact_job.run(folder) == Exit.FINISHED
    told = read_events(folder / "events.jsonl", 0)[0]
    assert [event.data["done"] for event in told][-1] == 27
    found = json.loads((folder / "exact.json").read_text())
    assert len(found["influences"]) == 11  # one of twelve was held out
    assert (found["steps"], found["loss"] > 0) == (9, True)

    write_json(folder / "answer.json", asked | {"adapter_sha256": "0" * 64})
    assert exact_job.run(folder) == Exit.FAILED
    last = read_events(folder / "events.jsonl", 0)[0][-1]
    assert (last.kind, "not those of then" in last.data["reason"]) == (Kind.FAILED, True)
    monkeypatch.setattr(exact_job, "Stop", lambda: True)
    assert exact_job.run(folder) == Exit.STOPPED
