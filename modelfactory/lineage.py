"""What a model was made of through its ancestors, and what of its owner's part goes to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from accounts.compiled import Compiled
from datanets.models import Version
from governance.selectors import Parameters
from ledger.royalties import DEEPEST, Passing, Royalty, weigh
from modelfactory.models import Model, Run, RunParent, RunVersion


@dataclass(frozen=True)
class Family:
    """Models with all above them: parents by model with weights, owners, and who is gone."""

    parents: dict[UUID, list[tuple[UUID, int]]]
    owners: dict[UUID, UUID]
    gone: frozenset[UUID]


@dataclass(frozen=True)
class Ancestor:
    """A model above another: `generation` 1 is a parent; `percent` of the owner's part."""

    model: Model
    generation: int
    percent: float


def family_of(model_id: UUID) -> Family:
    """One query for each generation, DEEPEST at most."""
    parents: dict[UUID, list[tuple[UUID, int]]] = {}
    owners: dict[UUID, UUID] = {}
    gone: set[UUID] = set()
    level = {model_id}
    for _ in range(DEEPEST):
        if not level:
            break
        rows = _parents_of(level)
        level = set()
        for child, parent, weight, owner, state in rows:
            parents.setdefault(child, []).append((parent, weight))
            owners[parent] = owner
            if state == Model.State.TAKEN_DOWN:
                gone.add(parent)
            level.add(parent)
        level -= parents.keys()
    return Family(parents, owners, frozenset(gone))


def _parents_of(level: Collection[UUID]) -> list[tuple[UUID, UUID, int, UUID, str]]:
    """Child, parent, its weight, owner and state. A request asks of one model, without parents."""
    if len(level) == 1:
        return _PARENTS.rows(model=next(iter(level)))
    return list(RunParent.objects.filter(run__model__in=level).values_list(*_OF_PARENT))


_OF_PARENT = ("run__model", "model_id", "weight", "model__owner_id", "model__state")
_PARENTS = Compiled(
    lambda model: RunParent.objects.filter(run__model=model).values_list(*_OF_PARENT)
)


def passing_of(model_id: UUID, parameters: Parameters) -> Passing:
    """What of the owner's part passes on to the owners of the models above, as it stands now."""
    if not _has_parents(model_id):
        return Passing()
    family = family_of(model_id)
    whole, weights = weigh(
        model_id,
        family.parents,
        basis_points=parameters.governed("royalty.model_bps"),
        depth=parameters.governed("royalty.depth"),
        gone=family.gone,
    )
    royalties = (
        Royalty(family.owners[node], node, weight) for node, weight in sorted(weights.items())
    )
    return Passing(whole, tuple(royalties))


@lru_cache(maxsize=4_096)
def _has_parents(model_id: UUID) -> bool:
    """Fixed when the run of a model begins."""
    return RunParent.objects.filter(run__model=model_id).exists()


def ancestry(model: Model, parameters: Parameters) -> list[Ancestor]:
    """The models above one, nearest first, with what passes on to each now."""
    family = family_of(model.pk)
    passing = passing_of(model.pk, parameters)
    percent = {one.source_id: passing.percent_of(one) for one in passing.royalties}
    generation = _generations(model.pk, family)
    models = Model.objects.select_related("owner").in_bulk(generation)
    return sorted(
        (Ancestor(models[pk], generation[pk], percent.get(pk, 0.0)) for pk in generation),
        key=lambda one: (one.generation, -one.percent, one.model.slug),
    )


def lineage_runs(run: Run) -> list[Run]:
    """The run itself, then those of all models above, nearest first."""
    found = {run.pk: run}
    level: Collection[UUID] = [run.pk]
    while level:
        above = Run.objects.filter(model__descendants__run__in=level).exclude(pk__in=found)
        fresh = {one.pk: one for one in above.distinct().order_by("id")}
        found |= fresh
        level = list(fresh)
    return list(found.values())


def lineage_versions(run: Run) -> list[Version]:
    """The versions that a run's model learns from, its ancestors' among them, each once."""
    return versions_of(lineage_runs(run))


def lineage_datanets(run_id: UUID) -> set[UUID]:
    """The Datanets of those versions: two small queries for each run of the lineage."""
    found: set[UUID] = set()
    seen, waiting = {run_id}, [run_id]
    while waiting:
        run = waiting.pop()
        found |= {datanet for (datanet,) in _DATANETS.rows(run=run)}
        above = {parent for (parent,) in _RUNS_ABOVE.rows(run=run)} - seen
        seen |= above
        waiting += above
    return found


@lru_cache(maxsize=4_096)
def datanets_of_model(run_id: UUID) -> frozenset[UUID]:
    """The same for the run of a model, whose lineage nobody changes any more."""
    return frozenset(lineage_datanets(run_id))


_DATANETS = Compiled(
    lambda run: RunVersion.objects.filter(run=run).order_by().values_list("version__datanet_id")
)
_RUNS_ABOVE = Compiled(
    lambda run: RunParent.objects.filter(run=run).order_by().values_list("model__run_id")
)


def versions_of(runs: Iterable[Run]) -> list[Version]:
    found: dict[UUID, Version] = {}
    for run in runs:
        for one in run.run_versions.select_related("version__datanet"):
            found.setdefault(one.version_id, one.version)
    return list(found.values())


def _generations(root: UUID, family: Family) -> dict[UUID, int]:
    found: dict[UUID, int] = {}
    level = {root}
    for generation in range(1, DEEPEST + 1):
        level = {parent for node in level for parent, _ in family.parents.get(node, ())}
        for node in level:
            found.setdefault(node, generation)
    return found
