"""Clients as processes: each has a connection of its own, all start at one moment."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from django.db import connections

Write = Callable[[], int]


def run_clients(make: Callable[[int], Write], *, clients: int, seconds: float) -> float:
    """Entries a second over all clients: what was acknowledged, by the longest client's time.

    `make` builds a client in its process. Raises RuntimeError where one failed.
    """
    connections.close_all()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(clients)
    pipes: list[Connection] = []
    processes: list[Any] = []
    for number in range(clients):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_client, args=(make, number, seconds, barrier, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        counts = [pipe.recv() for pipe in pipes]
    except EOFError as error:
        raise RuntimeError("A client failed; its reason stands above.") from error
    finally:
        for process in processes:
            process.join()
    return sum(count for count, _ in counts) / max(elapsed for _, elapsed in counts)


def _client(
    make: Callable[[int], Write], number: int, seconds: float, barrier: Barrier, out: Connection
) -> None:
    write = make(number)
    try:
        write()  # connects and prepares
    except BaseException:
        barrier.abort()
        raise
    barrier.wait(120)
    count, began = 0, time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            count += write()
    except StopIteration:
        pass  # all that was prepared is settled
    out.send((count, time.monotonic() - began))
