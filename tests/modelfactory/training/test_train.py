"""Training: an adapter that is better, the same for the same seed, and the same after a stop."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from modelfactory.training import train
from modelfactory.training.job import Exit, Job, Kind, read_events


class StopAfter:
    """Told to stop at the given look; never by a signal, so that tests share one process."""

    looks = 10**9

    def __init__(self):
        self.left = type(self).looks

    def __bool__(self):
        self.left -= 1
        return self.left < 0


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(train, "Stop", StopAfter)
    monkeypatch.setattr(StopAfter, "looks", 10**9)


def kinds(folder):
    return [event.kind for event in read_events(folder / "events.jsonl", 0)[0]]


def adapter(folder):
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_it_makes_an_adapter_that_is_better_on_records_it_never_saw(make_job):
    folder = make_job(records=40, epochs=6, learning_rate=0.05, rank=8)
    assert train.run(folder) == Exit.FINISHED
    result = json.loads((folder / "result.json").read_text())["evaluation"]
    assert result["loss_after"] < result["loss_before"] - 0.1
    assert result["held_out_records"] == 4
    assert len(result["answers"]["samples"]) == 2
    assert kinds(folder)[0] == Kind.STARTED
    assert kinds(folder)[-1] == Kind.FINISHED


def test_peft_reads_the_adapter_and_finds_the_loss_that_was_told(make_job, tiny_base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from modelfactory.training.data import examine, read_rows
    from modelfactory.training.evaluate import held_out_loss
    from modelfactory.training.prompts import load_tokenizer

    folder = make_job(learning_rate=0.02)
    train.run(folder)
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_base), folder / "adapter"
    )
    held_out = set(json.loads((folder / "split.json").read_text())["held_out"])
    items, _ = examine(read_rows(folder / "records.jsonl"), load_tokenizer(tiny_base), cutoff=64)
    found = held_out_loss(model, [i for i in items if i.record in held_out], pad=0, device="cpu")
    told = json.loads((folder / "result.json").read_text())["evaluation"]["loss_after"]
    assert found.loss == pytest.approx(told, rel=1e-6)


@pytest.mark.parametrize(
    "recipe",
    [
        {"dropout": 0.1},
        {"packing": True, "gradient_accumulation": 2},
        {"use_dora": True, "targets": "mlp"},
        {"use_rslora": True, "targets": "attention", "scheduler": "linear"},
    ],
    ids=["dropout", "packing", "dora", "rslora"],
)
def test_it_goes_on_after_a_stop_to_the_same_bits(make_job, monkeypatch, recipe):
    whole = make_job("whole", epochs=2, **recipe)
    assert train.run(whole) == Exit.FINISHED
    stopped = make_job("stopped", epochs=2, **recipe)
    monkeypatch.setattr(StopAfter, "looks", 3)
    assert train.run(stopped) == Exit.STOPPED
    assert kinds(stopped)[-1] == Kind.STOPPED
    monkeypatch.setattr(StopAfter, "looks", 10**9)
    assert train.run(stopped) == Exit.FINISHED
    assert adapter(whole) == adapter(stopped)
    sequences = [e.sequence for e in read_events(stopped / "events.jsonl", 0)[0]]
    assert sequences == list(range(1, len(sequences) + 1))


def test_states_for_attribution_are_kept_over_a_stop_and_lead_to_the_same_adapter(
    make_job, monkeypatch
):
    def kept(folder):
        return [path.read_bytes() for path in sorted(folder.glob("kept/*/*.safetensors"))]

    plain, whole = make_job("plain", epochs=2), make_job("whole", epochs=2, checkpoints=3)
    train.run(plain)
    train.run(whole)
    assert adapter(plain) == adapter(whole)
    assert "checkpoints" not in json.loads((plain / "result.json").read_text())
    told = json.loads((whole / "result.json").read_text())
    assert [state["step"] for state in told["checkpoints"]] == [3, 7, 10]
    assert told["steps"] == 10
    recipe = Job.read(whole).parsed_recipe()
    every = sum(train.learning_rate(step, 10, recipe) for step in range(10))
    assert sum(state["rates"] for state in told["checkpoints"]) == pytest.approx(every)
    assert len({*kept(whole), adapter(whole)}) == 3
    stopped = make_job("stopped", epochs=2, checkpoints=3)
    monkeypatch.setattr(StopAfter, "looks", 5)
    train.run(stopped)
    monkeypatch.setattr(StopAfter, "looks", 10**9)
    train.run(stopped)
    assert kept(stopped) == kept(whole)


def test_fewer_steps_than_states_keep_what_there_is(make_job):
    folder = make_job(epochs=1, batch_size=18, checkpoints=8)
    assert train.run(folder) == Exit.FINISHED
    assert "checkpoints" not in json.loads((folder / "result.json").read_text())


def test_another_seed_makes_another_adapter(make_job):
    first, second = make_job("first", seed=1), make_job("second", seed=2)
    train.run(first)
    train.run(second)
    assert adapter(first) != adapter(second)


def test_a_loss_without_bounds_fails_with_what_to_do(make_job, monkeypatch):
    folder = make_job()
    monkeypatch.setattr(
        train,
        "batch_loss",
        lambda state, batch: (
            sum(p.sum() for p in state.model.parameters() if p.requires_grad) * float("nan")
        ),
    )
    assert train.run(folder) == Exit.FAILED
    last = read_events(folder / "events.jsonl", 0)[0][-1]
    assert last.kind == Kind.FAILED
    assert "Lower the learning rate" in last.data["reason"]


def test_too_few_records_fail_with_the_next_step(make_job):
    folder = make_job(records=3)
    assert train.run(folder) == Exit.FAILED
    assert "too few" in read_events(folder / "events.jsonl", 0)[0][-1].data["reason"]


def test_a_base_that_does_not_load_fails_with_its_name(make_job, tmp_path, tiny_base):
    folder = make_job()
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_base.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"nonsense")
    job = json.loads((folder / "job.json").read_text()) | {"base_folder": str(broken)}
    Job(**job).write(folder)
    assert train.run(folder) == Exit.FAILED
    assert "tiny does not load" in read_events(folder / "events.jsonl", 0)[0][-1].data["reason"]


def test_a_half_written_event_of_a_killed_process_is_taken_off(make_job):
    folder = make_job()
    (folder / "events.jsonl").write_text('{"sequence": 1, "kind": "LO')
    assert train.run(folder) == Exit.FINISHED
    assert kinds(folder)[0] == Kind.STARTED


def start(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "modelfactory.training", str(folder)], env=environment
    )


def wait_for(folder, kind):
    until = time.monotonic() + 120
    while kind not in kinds(folder):
        assert time.monotonic() < until, f"no {kind} in two minutes"
        time.sleep(0.05)


def test_a_process_that_is_told_to_stop_leaves_a_checkpoint(make_job):
    folder = make_job(records=200, epochs=20)
    child = start(folder)
    wait_for(folder, Kind.PROGRESS)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == Exit.STOPPED
    assert (folder / "checkpoint" / "state.pt").exists()
    assert kinds(folder)[-1] == Kind.STOPPED


def test_a_process_whose_worker_was_killed_stops_by_itself(make_job):
    folder = make_job(records=200, epochs=20)
    middle = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time; "
            "subprocess.Popen([sys.executable, '-m', 'modelfactory.training', sys.argv[1]]); "
            "time.sleep(600)",
            str(folder),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wait_for(folder, Kind.PROGRESS)
    middle.kill()
    middle.wait()
    wait_for(folder, Kind.STOPPED)
    assert (folder / "checkpoint" / "state.pt").exists()


@pytest.mark.skipif(
    "not __import__('torch').cuda.is_available()", reason="needs a CUDA device to train on"
)
def test_it_trains_on_a_gpu_in_bfloat16(make_job):
    folder = make_job(learning_rate=0.02)
    job = json.loads((folder / "job.json").read_text())
    Job(**job | {"device": "cuda", "dtype": "bfloat16"}).write(folder)
    assert train.run(folder) == Exit.FINISHED
    result = json.loads((folder / "result.json").read_text())["evaluation"]
    assert result["loss_after"] < result["loss_before"]
