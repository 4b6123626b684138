"""How many entries the ledger writes a second, against the ceiling of the database itself.

An entry has seven legs, as a fee has. The ceiling is the product's own statement
(`ledger.services.writing`) sent by psycopg from 16 clients with nothing around it: same tables,
same triggers, `fsync` on. Against it, 16 Django processes that do what a capture does (look the
accounts up, post the entry, in a transaction), and settlement as the attribute worker does it
(`settle_many`). Whole captures (`bench.ledger.captures`) stand beside them without a bar: they
write hold, budget and audit as well. Peers take turns; a ratio compares values of one round. The
price of the triggers and of NUMERIC is measured on copies of the tables without them.

PostgreSQL is one of its own, which waits for the disk as a real one does.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from bench import house, report

ROUNDS = 3


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="for each peer, over 3 rounds")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--batch", type=int, default=100, help="completions settled at once")
    parser.add_argument("--only", default="", help="peers whose name contains this")
    options = parser.parse_args()
    result = report.Report("ledger", options)
    with tempfile.TemporaryDirectory(prefix="bench-ledger-") as folder, house.durable(Path(folder)):
        from bench.ledger import peers

        world = peers.World(options.clients, options.batch, options.seconds / ROUNDS, ROUNDS)
        chosen = {name: peer for name, peer in world.peers().items() if options.only in name}
        runs = report.interleave(chosen, rounds=ROUNDS)
        for name in chosen:
            result.add(name, statistics.median(runs[name]), "entries/s", at_least=FLOORS.get(name))
        for name, (ours, peer, bar) in RATIOS.items():
            if ours in runs and peer in runs:
                result.add(name, report.ratio(runs[ours], runs[peer]), "x", at_least=bar)
        wrong = world.wrong()
        note = ", ".join(wrong)
        result.add("comparisons that differ after it", len(wrong), "", at_most=0, note=note)
    return result.finish()


# Not under these on the two cores that the bars were set for.
FLOORS = {"Django, hot account": 125, "Django, spread": 300, "Django, settlement": 2_500}
RATIOS: dict[str, tuple[str, str, float | None]] = {
    "hot account: Django / ceiling": ("Django, hot account", "ceiling, hot account", 0.5),
    "spread: Django / ceiling": ("Django, spread", "ceiling, spread", 0.4),
    "settlement: Django / ceiling": ("Django, settlement", "ceiling, settlement", 0.8),
    "with triggers / without": ("ceiling, spread", "no triggers, spread", None),
    "NUMERIC / bigint, both without triggers": (
        "no triggers, spread",
        "no triggers and bigint, spread",
        None,
    ),
    "in batches: with triggers / without": (
        "ceiling, settlement",
        "no triggers, settlement",
        None,
    ),
    "in batches: NUMERIC / bigint": (
        "no triggers, settlement",
        "no triggers and bigint, settlement",
        None,
    ),
}


if __name__ == "__main__":
    raise SystemExit(main())
