"""Writers that are handed receipts at a steady rate, and the sequencer behind them.

A writer is what an attribute worker does once answers are scored: it takes all that are due, up to
as many as a worker takes (`workers.AT_ONCE`), and writes them in one transaction. The sequencer is
woken as in production: the outbox message is published by the relay's own code and the log
sequenced; only the broker between them is left out. Each is a process.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection, connections, transaction
from django.utils import timezone

from accounts import outbox
from accounts.ids import uuid7
from attribution.models import LogLeaf, Receipt
from attribution.services import log, writing
from attribution.services.writing import Scored
from bench.receipts.world import OWNER, World

AT_ONCE = 64
POLL = 0.02
LEAD = 0.5
SEQUENCE = "attribution.tasks.sequence_log"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds, one for each receipt: from when it was due, and from its commit, until the signed
    head that covers it was published. ``backlog`` is the most that waited at once."""

    from_due: list[float]
    from_commit: list[float]
    backlog: int
    heads: int
    written_a_second: float
    # Milliseconds of a processor for each receipt: of the writers, and of their connections.
    writer_cpu: float
    server_cpu: float


# (receipt, when it was due, when it was committed), then what its writer and the server computed.
Told = tuple[list[tuple[UUID, float, float]], float, float]
# Writes those of these numbers; returns the receipts' ids in that order.
Write = Callable[[World, Sequence[int]], list[UUID]]


def whole_receipts(world: World, numbers: Sequence[int]) -> list[UUID]:
    """As an attribute worker writes them: settled, with sketch, shares and records."""
    scored = [Scored(world.works[number], world.evidence(number)) for number in numbers]
    written = writing.write_receipts(owner=OWNER, scored=scored, at=timezone.now())
    ids = {one.attribution_id: one.pk for one in written}
    return [ids[world.works[number]] for number in numbers]


def leaves_alone(world: World, numbers: Sequence[int]) -> list[UUID]:
    """What the log itself has to do with as many receipts: bodies hashed, leaves queued."""
    ids = [uuid7() for _ in numbers]
    bodies = {one: world.body | {"id": str(one)} for one in ids}
    with transaction.atomic():
        log.append_receipts(bodies=bodies, at=timezone.now())
    return ids


def drive(
    world: World, numbers: Sequence[int], write: Write, *, rate: float, writers: int
) -> Outcome:
    """Hand ``numbers`` to the writers, ``rate`` a second in all.

    Raises RuntimeError where a process failed or a receipt is not under a head afterwards.
    """
    connections.close_all()
    context = multiprocessing.get_context("fork")
    barrier, stop = context.Barrier(writers + 1), context.Event()
    pipes: list[Connection] = []
    processes: list[Any] = []
    jobs: list[tuple[Any, tuple[Any, ...]]] = [(_sequence, (stop,))]
    jobs += [
        (_write, (world, numbers[n::writers], write, n, writers, rate)) for n in range(writers)
    ]
    for target, args in jobs:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=target, args=(*args, barrier, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        told: list[Told] = [pipe.recv() for pipe in pipes[1:]]
        stop.set()
        heads: list[tuple[int, float]] = pipes[0].recv()
    except EOFError as error:
        stop.set()
        raise RuntimeError("A process failed; its reason stands above.") from error
    finally:
        for process in processes:
            process.join()
    return _outcome(world, told, heads)


def _write(
    world: World,
    numbers: Sequence[int],
    write: Write,
    place: int,
    writers: int,
    rate: float,
    barrier: Barrier,
    out: Connection,
) -> None:
    Receipt.objects.first()  # connects
    barrier.wait(120)
    began = time.time() + LEAD
    due = [began + (turn * writers + place) / rate for turn in range(len(numbers))]
    lines: list[tuple[UUID, float, float]] = []
    own, server, taken = time.process_time(), _server_cpu(), 0
    while taken < len(numbers):
        ready = min(bisect_right(due, time.time()), taken + AT_ONCE)
        if ready == taken:
            time.sleep(max(0.0, due[taken] - time.time()))
            continue
        ids = write(world, numbers[taken:ready])
        now = time.time()
        lines += [(one, due[taken + n], now) for n, one in enumerate(ids)]
        taken = ready
    out.send((lines, time.process_time() - own, _server_cpu() - server))


def _server_cpu() -> float:
    """Seconds of a processor that this connection's server process has used."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sequence(stop: Event, barrier: Barrier, out: Connection) -> None:
    waiting: list[UUID] = []

    def send(task: str, args: list[Any], queue: str, message: UUID) -> None:
        if task == SEQUENCE:
            waiting.append(message)

    Receipt.objects.first()
    barrier.wait(120)
    heads: list[tuple[int, float]] = []
    while True:
        ending = stop.is_set()
        outbox.publish_due(send=send, at=timezone.now())
        messages, waiting[:] = list(waiting), []
        for message in messages:
            while (head := log.sequence_batch(at=timezone.now())) is not None:
                heads.append((head.size, time.time()))
            outbox.done(message)
        if ending and not messages:
            break
        if not messages:
            time.sleep(POLL)
    out.send(heads)


def _outcome(world: World, told: Sequence[Told], heads: list[tuple[int, float]]) -> Outcome:
    written = [line for lines, _, _ in told for line in lines]
    of_writers = 1000 * sum(own for _, own, _ in told) / len(written)
    of_server = 1000 * sum(server for _, _, server in told) / len(written)
    sizes = [size for size, _ in heads]
    places = dict(
        LogLeaf.objects.filter(receipt_id__in=[line[0] for line in written]).values_list(
            "receipt_id", "index"
        )
    )
    from_due, from_commit = [], []
    for receipt, due, committed in written:
        index = places.get(receipt)
        found = bisect_right(sizes, index) if index is not None else len(heads)
        if found == len(heads):
            raise RuntimeError(f"receipt {receipt} is under no head")
        from_due.append(heads[found][1] - due)
        from_commit.append(heads[found][1] - committed)
    commits = sorted(line[2] for line in written)
    base = (sizes[-1] - len(written)) if sizes else 0
    backlog = max(
        bisect_right(commits, moment) - (sizes[n - 1] - base if n else 0)
        for n, (_, moment) in enumerate(heads)
    )
    spent = commits[-1] - min(line[1] for line in written)
    a_second = len(written) / spent
    return Outcome(from_due, from_commit, backlog, len(heads), a_second, of_writers, of_server)
