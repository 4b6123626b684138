"""Exact influence through a model's own run and those of the models that it was made from.

A model that was trained further began where another ended, so what an answer's loss changes by with
that beginning is what it changes by with the other run's end: `attribution.influence.exact` goes on
there. A merge adds adapters, by weight (`modelfactory.training.parents`): it hands each parent what
is the parent's of the derivative by the merged one.

    FOLDER/                 the job, its records and parents/N/, as `modelfactory.training` has them
    FOLDER/parents/N/run/   the same of parent N, which parents/N/ is the published adapter of
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from attribution.influence import exact
from attribution.influence.exact import Adjoint, Beat, Exact
from attribution.influence.examples import check_query
from attribution.influence.gradients import Tokens
from attribution.influence.index import file_sha256
from attribution.influence.model import ADAPTER_FILE
from modelfactory.training.job import Job
from modelfactory.training.parents import WHOLE, Parent, read_parent
from modelfactory.training.train import Training, prepare

Named = dict[str, Tensor]  # derivatives by parameters, by the parameters' names


def exact_influences_through(
    folder: Path, answer: Tokens, adapter_sha256: str, beat: Beat = lambda done, total: None
) -> Exact:
    """Those of all records that the job's model learnt from, itself or through its parents; a
    record that several of these runs read has one weight in all of them.

    Raises ReplayError where one of the runs does not give its published adapter, QueryError for an
    answer that the model cannot read.
    """
    influences: Counter[str] = Counter()
    journey = _Journey(answer, beat, runs=1 + len(list(folder.rglob("run/job.json"))))
    for mine in journey.through(folder, adapter_sha256, None):
        for record, value in mine.items():
            influences[record] += value  # type: ignore[assignment]
    found = Exact(dict(influences), journey.loss, adapter_sha256, journey.steps)
    return exact.finite(found)


class _Journey:
    """Back through one run after the other; ``steps`` and ``loss`` stand when it is over."""

    def __init__(self, answer: Tokens, beat: Beat, runs: int) -> None:
        self.answer, self.beat, self.runs = answer, beat, runs
        self.steps, self.loss, self._before = 0, 0.0, 0

    def through(
        self, folder: Path, adapter_sha256: str, ends: Named | None
    ) -> Iterator[dict[str, float]]:
        """The influences of each run's records. ``ends`` are the derivatives by the adapter that
        this one ends with; None where it is the model that answered."""
        job = Job.read(folder)
        starts, influences = self._back(prepare(folder, job), adapter_sha256, ends)
        yield influences
        parents = [
            read_parent(folder / f"parents/{n}", weight) for n, weight in enumerate(job.parents)
        ]
        for place, part in enumerate(of_parents(starts, parents)):
            above = folder / f"parents/{place}"
            yield from self.through(above / "run", file_sha256(above / ADAPTER_FILE), part)

    def _back(
        self, training: Training, adapter_sha256: str, ends: Named | None
    ) -> tuple[Named, dict[str, float]]:
        run = exact.replay(training, adapter_sha256, self._tell)
        if ends is None:
            check_query(self.answer.input_ids, self.answer.loss_mask, training.context)
            self.loss, adjoint = exact.of_answer(training, self.answer)
        else:
            adjoint = _adjoint(training, ends)
        [influences], [adjoint] = exact.go_back(training, run, [adjoint], self._tell)
        self.steps += len(run.order)
        self._before += 3 * len(run.order)
        self.runs -= 1
        names = [name for name, p in training.model.named_parameters() if p.requires_grad]
        return dict(zip(names, adjoint.parameters, strict=True)), influences

    def _tell(self, done: int, total: int) -> None:
        # How long the runs before it are is known when they are read: taken to be as long.
        self.beat(self._before + done, self._before + total * self.runs)


def of_parents(starts: Mapping[str, Tensor], parents: Sequence[Parent]) -> list[Named]:
    """What is each parent's of the derivatives by an adapter that begins as what they make: A's
    rows and B's columns stand beside each other in a merge, and B is weighed."""
    if len(parents) == 1:
        return [dict(starts)]
    found: list[Named] = []
    first = 0
    for parent in parents:
        rank = slice(first, first + parent.rank)
        weight = parent.weight / WHOLE * parent.scale
        found.append(
            {
                name: value[:, rank] * weight if ".lora_B." in name else value[rank]
                for name, value in starts.items()
            }
        )
        first += parent.rank
    return found


def _adjoint(training: Training, ends: Named) -> Adjoint:
    named = [(name, p) for name, p in training.model.named_parameters() if p.requires_grad]
    nothing = [torch.zeros_like(p, dtype=torch.float64) for _, p in named]
    return Adjoint([ends[name] for name, _ in named], nothing, [one.clone() for one in nothing])
