"""The larger form of Task B, which is made for a GPU, is a whole script that runs on a CPU, too."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from attribution.influence.examples import IndexedExample
from bench.attribution import runs, task, task_b, training, truth, truth_b
from modelfactory.training.prompts import load_tokenizer, render_example

SENTENCES = (
    "Diabetes is a disease in which the level of sugar in the blood is too high.",
    "The treatment depends on the cause and may include medicines and a change of diet.",
    "Symptoms are pain, fever and a loss of weight over some weeks.",
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def examples(count: int, what: str) -> list[IndexedExample]:
    tokenizer = load_tokenizer(task.STARTER)
    found = []
    for number in range(count):
        said = {"role": "assistant", "content": SENTENCES[number % 3]}
        asked = {"role": "user", "content": f"What is known of {what} {number}?"}
        made = render_example({"messages": [asked, said]}, tokenizer, 64)
        group = f"contributor {number % 2}"
        found.append(
            IndexedExample(
                f"{what} {number}", group, made.input_ids, made.loss_mask, f"{number:064}"
            )
        )
    return found


def test_its_base_is_large_and_does_nearly_what_the_starter_does():
    deep, starter = task_b.deep_starter(), task_b.starter()
    assert sum(p.numel() for p in deep.parameters()) >= 10_000_000
    ids = torch.tensor([examples(1, "it")[0].input_ids])
    with torch.inference_mode():
        losses = [float(net(input_ids=ids, labels=ids).loss) for net in (starter, deep)]
    assert losses[1] < losses[0] + 1.0 < np.log(4096)  # a base that knew nothing would be at 8.3


def test_it_takes_two_thousand_steps_of_rank_32():
    form = task_b.LARGE
    assert form.recipe.rank >= 32
    assert form.epochs * task_b.RECORDS // form.recipe.batch >= 2_000
    assert task_b.PLAIN.epochs * task_b.RECORDS // task_b.PLAIN.recipe.batch == 512


def test_the_script_trains_answers_and_packs(tmp_path: Path):
    form = task_b.Form(tmp_path / "truth", replace(task_b.LARGE.recipe, mixed=False), epochs=1)
    made = task.Task(examples(8, "record"), examples(task.DEVELOPMENT + 2, "query"), {}, [])
    truth_b.go_on(made, form, tmp_path, end=0.0, device="cpu")
    truth_b.pack(made, form, tmp_path)
    found = truth.Truth.load(form.truth)
    found.check(made)
    assert (found.runs, len(found.generated)) == (0, 2)
    assert np.isnan(found.leave_losses).all()

    run = truth_b.Run("without-contributor 0", 1, [1, 3, 5, 7])
    asked = [*made.queries, *truth.generated_queries(made, found.generated)]
    losses = truth_b.together(made, [run], asked, form)
    truth_b._write(
        truth_b._file(tmp_path, run.name, run.seed), {"cpu_s": 1.0, "losses": losses[0].tolist()}
    )
    truth_b.pack(made, form, tmp_path)
    assert truth.Truth.load(form.truth).runs == 1
    network = training.adapted(1, form.recipe)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) > 2_000_000


def test_without_its_truth_the_benchmark_says_how_to_make_it(tmp_path: Path):
    with pytest.raises(ValueError, match="--form large"):
        runs.prepare_b(tmp_path, task_b.LARGE)
