"""The train queue's tasks: an id in, one call."""

from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_shutting_down

from modelfactory import basejobs, jobs


@shared_task
def execute_run(run_id: str) -> None:
    device, dtype = jobs.device_of_this_worker()
    jobs.execute(UUID(run_id), device=device, dtype=dtype)


@shared_task
def check_base(base_id: str) -> None:
    basejobs.check(UUID(base_id))


@worker_shutting_down.connect
def give_runs_back(**_: Any) -> None:
    jobs.stopping.set()
