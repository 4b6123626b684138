"""Keeps a lease alive while its work runs, whatever the work is doing.

The work may sit in one long transaction or in one long call, so a thread of its own, with a
connection of its own, renews the lease. It dies with the process: a killed worker's lease runs
out, and the sweeper puts the work back.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts import leases
from accounts.models import WorkItem


@contextmanager
def lifeline(model: type[WorkItem], pk: UUID, *, owner: str) -> Iterator[None]:
    """Renew the lease of a claimed row until the block ends or the lease is lost."""

    def renew() -> bool:
        return leases.heartbeat(model, pk, owner=owner, at=timezone.now())

    with _renewing(renew):
        yield


@contextmanager
def lifeline_of_all(model: type[WorkItem], *, owner: str) -> Iterator[None]:
    """Renew the leases of all rows that `owner` has claimed or claims until the block ends."""

    def renew() -> bool:
        leases.heartbeat_all(model, owner=owner, at=timezone.now())
        return True

    with _renewing(renew):
        yield


@contextmanager
def _renewing(renew: Callable[[], bool]) -> Iterator[None]:
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(renew, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _renew(renew: Callable[[], bool], done: threading.Event) -> None:
    pause = settings.WORK_LEASE.total_seconds() / 3
    try:
        while not done.wait(pause):
            if not renew():
                return
    finally:
        connection.close()
