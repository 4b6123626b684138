"""Each method on a task: fitted on the records, asked every query, its CPU seconds taken."""

from __future__ import annotations

import copy
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.influence import baselines, scores
from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import whitened_gradients
from attribution.influence.examples import IndexedExample
from attribution.influence.gradients import batches
from attribution.influence.index import Index
from attribution.influence.model import AdaptedModel, adapt
from attribution.influence.quantise import clip_norms
from attribution.influence.scorer import Scorer
from bench.attribution import task, task_b, training, truth, truth_b
from bench.attribution.memory import Peak
from bench.attribution.metrics import Known
from bench.attribution.peers.common import Peer

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """``records`` (queries, records) and ``groups`` (queries, groups); seconds are CPU time of one
    thread, the query's for all queries together, ``scoring_s`` without the queries' gradients;
    ``peak_mib`` is memory above what stood before; ``measured``, if kept, the day."""

    name: str
    records: Doubles
    groups: Doubles
    build_s: float
    query_s: float
    bytes_per_record: float
    scoring_s: float = float("nan")
    peak_mib: float = float("nan")
    measured: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """A task with its full model. ``asked`` are held-out queries, then generated answers;
    ``folder`` has the task's committed files."""

    name: str
    folder: Path
    made: task.Task
    truth: truth.Truth
    known: Known
    asked: list[IndexedExample]
    model: AdaptedModel
    checkpoints: list[tuple[AdaptedModel, float]]

    @property
    def held_out(self) -> slice:
        """The queries on which nothing was chosen."""
        return slice(task.DEVELOPMENT, len(self.made.queries))

    @property
    def generated(self) -> slice:
        return slice(len(self.made.queries), None)

    def sums(self, records: Doubles) -> Doubles:
        found: Doubles = records @ self.known.members.T.astype(np.float64)
        return found


def prepare(medquad: Path) -> World:
    """Task A. Raises ValueError where the text is not the one that the truth is about."""
    made = task.load(medquad)
    known = truth.Truth.load()
    known.check(made)
    snapshots: list[Any] = []
    network = training.train(
        made.records,
        truth.FULL_SEED,
        after_epoch=lambda epoch, network: snapshots.append(copy.deepcopy(network)),
    )
    rates = [1 - (epoch + 0.5) / training.EPOCHS for epoch in range(training.EPOCHS)]
    checkpoints = [(adapt(s, device="cpu"), r) for s, r in zip(snapshots, rates, strict=True)]
    return _world("a", task.FOLDER, made, known, network, checkpoints)


def prepare_b(medquad: Path, form: task_b.Form = task_b.PLAIN) -> World:
    """Task B, without checkpoints. Raises ValueError where text or base model are others, or the
    form has no truth yet."""
    if not form.truth.is_file():
        raise ValueError(
            f"{form.truth} is not there: `python -m bench.attribution.truth_b MEDQUAD --form large "
            "--device cuda` trains 120 times to make it."
        )
    made = task_b.load(medquad)
    known = truth.Truth.load(form.truth)
    known.check(made)
    return _world("b", form.folder, made, known, truth_b.full_model(made, form), [])


def _world(
    name: str,
    folder: Path,
    made: task.Task,
    known: truth.Truth,
    network: Any,
    checkpoints: list[tuple[AdaptedModel, float]],
) -> World:
    asked = [*made.queries, *truth.generated_queries(made, known.generated)]
    members = np.array([[r.group_id == group for r in made.records] for group in made.groups])
    facts = Known(known.halves, known.half_losses, known.leave_losses, known.full_losses, members)
    model = adapt(network, device="cpu")
    return World(name, folder, made, known, facts, asked, model, checkpoints)


def plain_epochs(world: World) -> list[float]:
    """CPU seconds of each of three epochs of plain PEFT, in fp32 as the index is built."""
    ends = [time.process_time()]
    training.train(
        world.made.records,
        truth.FULL_SEED,
        after_epoch=lambda epoch, network: ends.append(time.process_time()),
        mixed=False,
        epochs=3,
    )
    return [after - before for before, after in itertools.pairwise(ends)]


def ours(world: World, config: InfluenceConfig, label: str = "ours") -> list[Run]:
    """The product's own path, from the build of an index to integers: what is paid from sums and
    what is shown from sketches, and before them the same vectors in fp32."""
    with tempfile.TemporaryDirectory(prefix="bench-attribution-") as folder:
        with Peak() as peak:
            began = time.process_time()
            build_with(world.model, config, world.made.records, Path(folder))
            built = time.process_time() - began
            index = Index.open(folder)
            scorer = Scorer.of(index, world.model)
            began = time.process_time()
            queries = [scorer.query(q.input_ids, q.loss_mask) for q in world.asked]
            gradients = time.process_time() - began
            began = time.process_time()
            groups = [scores.group_scores(index.sums, query) for query in queries]
            by_groups = time.process_time() - began
            began = time.process_time()
            rows = [index.record_scores(query) for query in queries]
            by_records = time.process_time() - began
        place = {entry.record_id: row for row, entry in enumerate(index.records)}
        order = [place[record.record_id] for record in world.made.records]
        steps = np.array([query.step for query in queries])[:, None]
        sketched = np.array(rows, dtype=np.float64)[:, order] * steps
        paid = np.array(groups, dtype=np.float64) * steps
        with Peak() as peak_whole:
            whole, clipped = _whole(world, scorer, config)
    size = (index.codes.nbytes + index.norms.nbytes) / len(order)
    sums_size = index.sums.nbytes / len(order)
    spent = gradients + by_groups + by_records
    return [
        Run(f"{label}: whitened, fp32", whole, world.sums(whole), built, gradients,
            4 * world.model.whole_dimension, peak_mib=peak_whole.mib),
        Run(f"{label}: the same, clipped", clipped, world.sums(clipped), built, gradients,
            4 * world.model.whole_dimension, peak_mib=peak_whole.mib),
        Run(f"{label}: sums (paid)", clipped, paid, built, gradients + by_groups, sums_size,
            by_groups, peak.mib),
        Run(f"{label}: sketches", sketched, world.sums(sketched), built, spent, size, by_records,
            peak.mib),
    ]  # fmt: skip


def _whole(world: World, scorer: Scorer, config: InfluenceConfig) -> tuple[Doubles, Doubles]:
    records = whitened(scorer, world.made.records, config)
    queries = whitened(scorer, world.asked, config)
    clip = float(scorer.index.manifest.header["clip"])
    found = (queries @ records.T).astype(np.float64)
    return found, found * clip_norms(records, clip)[None, :]


def whitened(
    scorer: Scorer, examples: Sequence[IndexedExample], config: InfluenceConfig
) -> NDArray[np.float32]:
    out = np.empty((len(examples), scorer.model.whole_dimension), dtype=np.float32)
    lengths = [len(example.input_ids) for example in examples]
    for places in batches(lengths, range(len(examples)), config.batch_tokens):
        chosen = [examples[place] for place in places]
        out[places] = whitened_gradients(scorer.model, scorer.factors, chosen).numpy()
    return out


def baseline(world: World, name: str, make: Callable[[], baselines.Method]) -> Run:
    def ask(method: baselines.Method, queries: list[IndexedExample]) -> Doubles:
        return np.array([method.scores(query) for query in queries])

    return _measured(world, name, make, ask)


def peer(world: World, name: str, make: Callable[[], Peer]) -> Run:
    """Raises ImportError where it is not installed."""
    return _measured(world, name, make, lambda method, queries: method.matrix(queries))


def _measured(world: World, name: str, make: Callable[[], Any], ask: Callable[..., Doubles]) -> Run:
    with Peak() as peak:
        began = time.process_time()
        method = make()
        method.fit(world.made.records)
        built = time.process_time() - began
        began = time.process_time()
        records = ask(method, world.asked)
        asked = time.process_time() - began
    size = method.bytes_per_record
    return Run(name, records, world.sums(records), built, asked, size, peak_mib=peak.mib)


def baseline_methods(world: World) -> dict[str, Callable[[], baselines.Method]]:
    found: dict[str, Callable[[], baselines.Method]] = {
        "gradient dot": lambda: baselines.GradientDot(world.model),
        "DataInf": lambda: baselines.DataInf(world.model),
        "block Fisher": lambda: baselines.BlockFisher(world.model),
        "hidden-state cosine": lambda: baselines.HiddenStates(world.model),
        "BM25": baselines.BM25,
        "random": baselines.Random,
    }
    if world.checkpoints:
        name = f"TracIn, {len(world.checkpoints)} checkpoints"
        found[name] = lambda: baselines.TracIn(world.checkpoints)
    return found
