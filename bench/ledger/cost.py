"""What an entry costs in CPU: of the client that writes it and of the server's process beside it.

    python -m bench.ledger.cost

One client. Seconds of CPU hardly depend on what else the machine does, so this tells on a shared
one what a change has saved, where `bench.ledger` needs a quiet one.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import house, report

# Calls before the measurement: statements are prepared, plans made for good.
WARM = 8
CLOCK_TICK = os.sysconf("SC_CLK_TCK")


def main() -> int:
    options = report.parser(__doc__).parse_args()
    result = report.Report("ledger-cost", options)
    with tempfile.TemporaryDirectory(prefix="bench-ledger-") as folder, house.durable(Path(folder)):
        from bench.ledger import peers

        world = peers.World(clients=2, batch=100, seconds=3.0, rounds=1)
        for name, calls, write, backend in _peers(world):
            ours, theirs = _cost(write, calls, backend)
            result.add(f"{name}: client", 1_000 * ours, "ms CPU")
            result.add(f"{name}: server", 1_000 * theirs, "ms CPU")
    return result.finish()


def _peers(world: object) -> list[tuple[str, int, Callable[[], int], int]]:
    """Name, calls, what is called, and the server's process that it uses."""
    from django.db import connection

    from bench.ledger import captures, peers
    from ledger.services import writing

    assert isinstance(world, peers.World)
    chance = random.Random(1)
    raw = peers.connected()

    def plain() -> int:
        values = peers.raw_parameters([world._seven(chance, hot=False)])
        return len(raw.execute(writing.POST, values, prepare=True).fetchall())

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        django = int(cursor.fetchone()[0])
    return [
        ("statement alone", 400, plain, raw.info.backend_pid),
        ("Django, spread", 400, world._django(1), django),
        ("Django, settlement", 6, world._django_settlement(1), django),
        ("Django, captures", 100, captures.one_by_one(world.held[0]), django),
        ("Django, 10 captures at once", 10, captures.together(world.held[2], 10), django),
    ]


def _cost(write: Callable[[], int], calls: int, backend: int) -> tuple[float, float]:
    """Seconds of CPU for an entry: ours and the backend's."""
    for _ in range(WARM):
        write()
    ours, theirs = time.process_time(), _cpu_of(backend)
    entries = sum(write() for _ in range(calls))
    return (time.process_time() - ours) / entries, (_cpu_of(backend) - theirs) / entries


def _cpu_of(process: int) -> float:
    """User and system time of a process, by proc(5)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICK


if __name__ == "__main__":
    raise SystemExit(main())
