"""What every benchmark shares: figures with bars, a table, a JSON file, an exit status.

A benchmark is a module `bench/NAME.py` or a package `bench/NAME/__main__.py`, run by
`python -m bench.NAME` (`make bench NAME=NAME`). It measures peers in one process tree, interleaved,
and compares them within that run alone:

    parser = report.parser(__doc__)                      # brings --json FILE
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    result = report.Report("ledger", options)            # notes the machine and its load
    runs = report.interleave({"ours": ours, "peer": peer}, rounds=3)   # each returns a rate
    result.add("ours", median(runs["ours"]), "entries/s", at_least=125)
    result.add("peer", median(runs["peer"]), "entries/s")              # no bar: told, not judged
    result.add("ours / peer", report.ratio(runs["ours"], runs["peer"]), "x", at_least=0.5)
    raise SystemExit(result.finish())                    # table, --json, 1 where a bar is missed

The JSON has `name`, `at`, `options`, `machine` and `figures`; each figure has `name`, `value`,
`unit`, `bar`, `sense` ("at least" or "at most") and `holds` (null where it has no bar).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; with a bar, whether it is held."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """None where the figure has no bar."""
        if self.at_least is None and self.at_most is None:
            return None
        over = self.at_least is None or self.value >= self.at_least
        under = self.at_most is None or self.value <= self.at_most
        return over and under

    @property
    def bar(self) -> str:
        parts = [] if self.at_least is None else [f"≥ {_number(self.at_least)}"]
        parts += [] if self.at_most is None else [f"≤ {_number(self.at_most)}"]
        return " and ".join(parts)

    def as_json(self) -> dict[str, Any]:
        sense = "at least" if self.at_least is not None else "at most"
        bar = self.at_least if self.at_least is not None else self.at_most
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "bar": bar,
            "sense": sense if bar is not None else None,
            "holds": self.holds,
            "note": self.note,
        }


class Report:
    """Collects figures; `finish` prints them, writes them and says how the process should end.

    `options` are the parsed arguments, kept in the JSON; its `json` names the file, if any.
    """

    def __init__(self, name: str, options: argparse.Namespace | None = None) -> None:
        self.name = name
        self.options = vars(options) if options is not None else {}
        self.machine = machine()
        self.figures: list[Figure] = []
        self.began = datetime.now(UTC)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        note: str = "",
    ) -> Figure:
        figure = Figure(name, value, unit, at_least, at_most, note)
        self.figures.append(figure)
        return figure

    @property
    def missed(self) -> list[Figure]:
        return [figure for figure in self.figures if figure.holds is False]

    def finish(self) -> int:
        """Print the table, write `--json`; 0 where every bar holds, 1 otherwise."""
        sys.stdout.write(self.table())
        target = self.options.get("json")
        if target:
            Path(target).write_text(json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n")
        return 1 if self.missed else 0

    def table(self) -> str:
        verdicts = {True: "holds", False: "MISSED", None: ""}
        rows = [("figure", "value", "unit", "bar", "", "")] + [
            (one.name, _number(one.value), one.unit, one.bar, verdicts[one.holds], one.note)
            for one in self.figures
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths if width))
        facts = ", ".join(f"{key} {value}" for key, value in self.machine.items() if value)
        return "\n".join([f"bench {self.name}", facts, "", *lines, ""]) + "\n"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "at": self.began.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self.began).total_seconds(), 1),
            "options": {key: _plain(value) for key, value in self.options.items()},
            "machine": self.machine | {"load after": _load()},
            "figures": [figure.as_json() for figure in self.figures],
            "holds": not self.missed,
        }


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of arguments with what every benchmark takes."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--json", metavar="FILE", help="write every figure with its bar to FILE")
    return found


def interleave(peers: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Run the peers in turn, `rounds` times, every second round backwards; their values.

    Turn by turn, since a machine that is shared or grows warm is not the same an hour later.
    """
    found: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds):
        order = list(peers) if number % 2 == 0 else list(reversed(list(peers)))
        for name in order:
            value = peers[name]()
            found[name].append(value)
            sys.stderr.write(f"  round {number + 1}/{rounds}  {name}: {_number(value)}\n")
    return found


def ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """The median of the ratios round by round, where each pair met the same machine."""
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))


def machine() -> dict[str, str]:
    """What a reader must know to compare figures."""
    return {
        "cpu": f"{_cpu_model()} x {os.cpu_count()}",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "load": _load(),
    }


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The value to the right, words to the left, empty columns left out."""
    return [
        text.rjust(width) if column == 1 else text.ljust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
        if width
    ]


def _number(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def _load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return ""
    return f"{size / 2**30:.0f} GiB"


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
