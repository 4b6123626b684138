"""Which worker has an adapter in memory and a place for a request, by what workers reported."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from accounts.workers import own_queue
from serving.models import Completion, CompletionState, Deployment
from serving.residency import live_reports


def warm_queue(
    deployment: Deployment, queue: str, alive: Collection[str], *, at: datetime
) -> str | None:
    """The own queue of one of the live workers of `queue` that has the adapter and is free.

    None where it makes no difference: for a base, with a single worker, where no free one has it.
    A report is some seconds old; who has dropped the adapter since loads it again.
    """
    if deployment.model_id is None or len(alive) < 2:
        return None
    warm = live_reports(at).filter(
        worker__in=alive,
        base=deployment.base_model.slug,
        snapshot__adapters__contains=[{"name": deployment.name}],
    )
    free = []
    for worker, places in warm.values_list("worker", "snapshot__places"):
        running = Completion.objects.filter(
            state=CompletionState.RUNNING, lease_owner__startswith=f"{worker}:"
        ).count()
        if running < (places or 1):
            free.append((running, worker))
    return own_queue(queue, min(free)[1]) if free else None
