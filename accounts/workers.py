"""Which workers live, and on which queue and device."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet

from accounts.compiled import Compiled
from accounts.models import WorkerHeartbeat

MISSED_BEATS = 4


def beat(*, name: str, queue: str, pid: int, device: str, dtype: str, at: datetime) -> None:
    WorkerHeartbeat.objects.update_or_create(
        name=name, queue=queue, defaults={"pid": pid, "device": device, "dtype": dtype, "at": at}
    )


def leave(*, name: str) -> None:
    WorkerHeartbeat.objects.filter(name=name).delete()


def live_workers(*, at: datetime, queue: str | None = None) -> QuerySet[WorkerHeartbeat]:
    """Workers heard of within the last few beats, newest first."""
    since = at - timedelta(seconds=MISSED_BEATS * settings.WORKER_HEARTBEAT_SECONDS)
    alive = WorkerHeartbeat.objects.filter(at__gte=since).order_by("-at")
    return alive if queue is None else alive.filter(queue=queue)


def names_of_live_workers(*, at: datetime, queue: str) -> list[str]:
    """The same of one queue, by name: every request asks."""
    since = at - timedelta(seconds=MISSED_BEATS * settings.WORKER_HEARTBEAT_SECONDS)
    return [name for (name,) in _NAMES.rows(since=since, queue=queue)]


_NAMES = Compiled(
    lambda since, queue: (
        WorkerHeartbeat.objects.filter(at__gte=since, queue=queue)
        .order_by("-at")
        .values_list("name")
    )
)


def own_queue(queue: str, worker: str) -> str:
    """The queue that one worker alone takes from, beside the one that it shares."""
    return f"{queue}@{worker}"


def forget_dead(*, at: datetime) -> int:
    """Delete rows of workers that have been silent for a day."""
    deleted, _ = WorkerHeartbeat.objects.filter(at__lt=at - timedelta(days=1)).delete()
    return deleted
