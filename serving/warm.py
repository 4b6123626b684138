"""Which worker has an adapter in memory and a place for a request, by what workers reported."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from accounts.workers import own_queue
from modelfactory.models import Model
from serving import merges
from serving.engine.names import adapter_name
from serving.models import Completion, CompletionState
from serving.residency import live_reports, reported_name


def warm_queue(
    completion: Completion, queue: str, alive: Collection[str], *, at: datetime
) -> str | None:
    """The own queue of one of the live workers of `queue` that has the adapter and is free.

    Of several adapters that answer as one, a worker that has made the same of them before, else one
    that has them all. None where it makes no difference: for a base, with a single worker, where no
    free one has it. A report is some seconds old; who has dropped the adapter since loads it again.
    """
    if len(alive) < 2:
        return None
    for names in _wanted(completion):
        worker = _free(completion, names, alive, at)
        if worker is not None:
            return own_queue(queue, worker)
    return None


def _wanted(completion: Completion) -> list[Sequence[str]]:
    """What a worker should have in memory, the best first; nothing for a base."""
    if completion.merge is not None:
        ids = [UUID(one["model"]) for one in completion.merge["parents"]]
        names = {pk: _name(model) for pk, model in Model.objects.in_bulk(ids).items()}
        return [[merges.of_engine(completion.merge, names).name], list(names.values())]
    model = completion.deployment.model
    return [[_name(model)]] if model is not None else []


def _name(model: Model) -> str:
    return adapter_name(model.adapter_sha256, model.adapter_config)


def _free(
    completion: Completion, names: Sequence[str], alive: Collection[str], at: datetime
) -> str | None:
    """The least busy of the live workers that have all of these and a place left."""
    held: list[dict[str, Any]] = [{"adapter": reported_name(name)} for name in names]
    warm = live_reports(at).filter(
        worker__in=alive,
        base=completion.deployment.base_model.slug,
        snapshot__adapters__contains=held,
    )
    free = []
    for worker, places in warm.values_list("worker", "snapshot__places"):
        running = Completion.objects.filter(
            state=CompletionState.RUNNING, lease_owner__startswith=f"{worker}:"
        ).count()
        if running < (places or 1):
            free.append((running, worker))
    return min(free)[1] if free else None
