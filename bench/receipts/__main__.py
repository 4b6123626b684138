"""From a receipt to the signed head that covers it: `python -m bench.receipts`.

Receipts come at 50 a second, then in a burst of 600 a second. What is measured is the time from
when one was *due* until a signed checkpoint that covers it is published, so a writer that falls
behind counts as well; beside it the time from its commit. First the log alone: bodies hashed,
leaves queued, sequenced and signed. Then whole receipts of a busy model
(`bench/receipts/world.py`): settled, with a sketch in the object store, shares and top records.

PostgreSQL waits for the disk as a real one does; sequencer, relay and object store are the
product's. `--long` takes the ten minutes and the sixty seconds of the bar; without it a tenth.
Each whole receipt has a paid completion, which are made beforehand (7 ms each).
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import house, report

if TYPE_CHECKING:
    from bench.receipts.load import Outcome

STEADY, BURST = 50, 600
LIMIT = 10.0


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--long", action="store_true", help="10 minutes, and 60 s of burst")
    parser.add_argument("--steady", type=float, help="seconds at 50 a second")
    parser.add_argument("--burst", type=float, help="seconds at 600 a second")
    parser.add_argument(
        "--only", choices=("leaves", "receipts"), help="the log alone, or the whole"
    )
    parser.add_argument("--writers", type=int, default=2, help="worker processes")
    parser.add_argument("--sketch-bytes", type=int, default=65_536)
    options = parser.parse_args()
    steady = options.steady if options.steady is not None else (600.0 if options.long else 60.0)
    burst = options.burst if options.burst is not None else (60.0 if options.long else 6.0)
    result = report.Report("receipts", options)
    with (
        tempfile.TemporaryDirectory(prefix="bench-receipts-") as folder,
        house.durable(Path(folder)),
    ):
        from bench.receipts import load, world

        few, many = int(STEADY * steady), int(BURST * burst)
        made = world.make(0 if options.only == "leaves" else few + many, options.sketch_bytes)
        for kind, write in (("leaves", load.leaves_alone), ("receipts", load.whole_receipts)):
            if options.only not in (None, kind):
                continue
            for seconds, rate, numbers in (
                (steady, STEADY, range(few)),
                (burst, BURST, range(few, few + many)),
            ):
                if numbers:
                    found = load.drive(made, numbers, write, rate=rate, writers=options.writers)
                    _tell(result, f"{kind}, {rate}/s for {seconds:.0f} s", found)
        result.add("differences after it", world.wrong(), "", at_most=0)
    return result.finish()


def _tell(result: report.Report, name: str, found: Outcome) -> None:
    result.add(f"{name}: receipts", len(found.from_due), "")
    result.add(f"{name}: due to head, p50", statistics.median(found.from_due), "s")
    result.add(f"{name}: due to head, p99", _percentile(found.from_due), "s", at_most=LIMIT)
    result.add(f"{name}: commit to head, p50", statistics.median(found.from_commit), "s")
    result.add(f"{name}: commit to head, p99", _percentile(found.from_commit), "s", at_most=LIMIT)
    result.add(f"{name}: most that waited", found.backlog, "leaves")
    result.add(f"{name}: heads signed", found.heads, "")
    result.add(f"{name}: written", found.written_a_second, "receipts/s")
    result.add(f"{name}: a writer's processor", found.writer_cpu, "ms a receipt")
    result.add(f"{name}: the server's processor", found.server_cpu, "ms a receipt")


def _percentile(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


if __name__ == "__main__":
    raise SystemExit(main())
