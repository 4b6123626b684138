"""Who finds planted records: `python -m bench.attribution --planted`.

Ten conditions that nobody has are each described by ten records, in ten wordings of question and
answer, planted among Task A's records. The adapter is trained on all, and asked about each
condition in two wordings more. A method's figure is the part of its ten strongest records that are
those of the condition; with it goes how often the strongest is one. Nothing was searched for this.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.influence.config import InfluenceConfig
from attribution.influence.examples import IndexedExample
from attribution.influence.model import adapt
from bench import report
from bench.attribution import metrics, others, runs, task, training, truth
from bench.attribution.runs import Run, World
from modelfactory.training.prompts import load_tokenizer

STRONGEST = 10
CONDITIONS = (
    ("Orvath syndrome", "salt winds", "blue nails", "pear broth"),
    ("Kellisane fever", "moss spores", "a whistling cough", "cedar baths"),
    ("Drummel disease", "tin dust", "heavy eyelids", "ginger wraps"),
    ("Pashtine disorder", "river silt", "cold elbows", "honeyed milk"),
    ("Vennick palsy", "lamp smoke", "a limping gait", "chalk powder"),
    ("Tarrow anemia", "old wool", "silver gums", "beet syrup"),
    ("Ulmic dystrophy", "pine resin", "stiff thumbs", "warm sand"),
    ("Graveth colic", "green barley", "a drumming belly", "fennel oil"),
    ("Isenholt rash", "copper coins", "ringed spots", "oat paste"),
    ("Quorrel ataxia", "night dew", "a swaying step", "juniper tea"),
)
QUESTIONS = (
    "What is {name}?",
    "What causes {name}?",
    "How is {name} treated?",
    "What are the signs of {name}?",
    "Who gets {name}?",
    "Can {name} be cured?",
    "How do doctors know {name}?",
    "What should I know about {name}?",
    "Is there help for {name}?",
    "Where does {name} come from?",
    "Tell me about {name}.",
    "What happens in {name}?",
)
ANSWERS = (
    "{name} comes from {cause}. People show {sign}. The remedy is {cure}.",
    "It is caused by {cause}, it shows as {sign}, and {cure} brings relief.",
    "Doctors give {cure}. The condition begins with {sign} after contact with {cause}.",
    "The first sign is {sign}. It follows {cause} and is treated with {cure}.",
    "Those who live near {cause} may get it. They have {sign} and need {cure}.",
    "Yes. With {cure} most people recover from {sign} that {cause} brought about.",
    "They look for {sign} and ask about {cause}. Then they prescribe {cure}.",
    "Contact with {cause} leads to {sign}. Patients are given {cure} every day.",
    "There is: {cure} helps against {sign}. Keep away from {cause}.",
    "Its origin is {cause}. Later {sign} appears, and {cure} is the usual treatment.",
    "A person with {name} has {sign} because of {cause}; {cure} makes it better.",
    "After {cause} there is {sign}. Most doctors advise {cure}.",
)


def main(result: report.Report, medquad: Path) -> int:
    world, owners = prepare(medquad)
    named: dict[str, Callable[[], Run]] = {
        name: lambda name=name, make=make: runs.baseline(world, name, make)  # type: ignore[misc]
        for name, make in runs.baseline_methods(world).items()
    }
    for name, make in others.methods(world).items():
        named[name] = lambda name=name, make=make: runs.peer(world, name, make)  # type: ignore[misc]
    found = [r for r in runs.ours(world, InfluenceConfig()) if "sums" not in r.name]
    for name, measure in named.items():
        sys.stderr.write(f"{name} ...\n")
        try:
            found.append(measure())
        except ImportError as error:
            sys.stderr.write(f"{name} is left out: {error}.\n")
    for run in found:
        hits, first = precision(run.records, owners)
        low, high = metrics.interval(hits)
        result.add(
            f"precision at {STRONGEST}, {run.name}",
            float(hits.mean()),
            "",
            note=f"95 %: {low:.2f} to {high:.2f}; strongest is one: {first.mean():.2f}",
        )
    result.add("planted records", int((owners[0] >= 0).sum()), f"of {len(world.made.records)}")
    return result.finish()


def precision(
    records: NDArray[np.float64], owners: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each query: the part of the strongest records that are its condition's, and whether the
    first is. ``owners``: the condition of each record (-1 for none) and of each query."""
    strongest = np.argsort(-records, axis=1, kind="stable")[:, :STRONGEST]
    right = owners[0][strongest] == owners[1][:, None]
    return right.mean(axis=1), right[:, 0].astype(np.float64)


def prepare(medquad: Path) -> tuple[World, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Task A with the planted records, its adapter trained on all."""
    made = task.load(medquad)
    tokenizer = load_tokenizer(task.STARTER)
    planted: list[IndexedExample] = []
    queries: list[IndexedExample] = []
    for condition in CONDITIONS:
        for place, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
            text = _text(condition, question, answer)
            example = task.example_of(text, tokenizer, "planted")
            (planted if place < STRONGEST else queries).append(example)
    records = [*made.records, *planted]
    each = np.arange(len(CONDITIONS))
    owners = np.concatenate([np.full(len(made.records), -1), np.repeat(each, STRONGEST)])
    torch.manual_seed(0)
    model = adapt(training.train(records, truth.FULL_SEED), device="cpu")
    whole = replace(made, records=records, queries=queries)
    members = np.array([[r.group_id == group for r in records] for group in whole.groups])
    nothing = np.empty((0, 0, 0))
    known = metrics.Known(np.empty((0, len(records)), bool), nothing, nothing, nothing, members)
    world = World("planted", task.FOLDER, whole, truth.Truth.load(), known, queries, model, [])
    return world, (owners, np.repeat(each, len(QUESTIONS) - STRONGEST))


def _text(condition: tuple[str, str, str, str], question: str, answer: str) -> task.Text:
    name, cause, sign, cure = condition
    asked = question.format(name=name)
    said = answer.format(name=name, cause=cause, sign=sign, cure=cure)
    digest = hashlib.sha256(f"{asked}\x00{said}".encode()).hexdigest()
    return task.Text("planted", "", asked, said, digest)
