"""What a process asked of the ledger and was told, one JSON line for each, with both times.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share. A request whose
answer never came (the server died) has the outcome UNKNOWN; whoever asked asks again.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

DONE, REFUSED, UNKNOWN = "DONE", "REFUSED", "UNKNOWN"


@dataclass(frozen=True)
class Request:
    """`label` names what must happen once; `takes` is (account kind, owner, wei) that it needs."""

    process: int
    label: str
    takes: tuple[str, str, int] | None
    began: int
    ended: int
    outcome: str
    # The entry that was acknowledged; "" where there was nothing to write.
    entry: str = ""
    code: str = ""


class Recorder:
    """Writes the history of one process; what was written survives the process."""

    def __init__(self, process: int, file: TextIO) -> None:
        self.process, self.file = process, file

    def ask(
        self,
        label: str,
        action: Callable[[], Any],
        *,
        takes: tuple[str, str, int] | None = None,
        refusals: tuple[type[Exception], ...] = (),
        losses: tuple[type[Exception], ...] = (),
    ) -> Request:
        """Do `action`, which returns its entry or None, and write down what came of it."""
        began = time.monotonic_ns()
        outcome, entry, code = DONE, "", ""
        try:
            written = action()
            entry = str(written.pk) if written is not None else ""
        except refusals as refusal:
            outcome, code = REFUSED, getattr(refusal, "code", type(refusal).__name__)
        except losses as loss:
            outcome, code = UNKNOWN, described(loss)
        ended = time.monotonic_ns()
        request = Request(self.process, label, takes, began, ended, outcome, entry, code)
        self.file.write(json.dumps(asdict(request)) + "\n")
        self.file.flush()
        return request


def described(loss: Exception) -> str:
    """The error's class, what PostgreSQL says of it, its SQLSTATE first, and where it was raised.

    For a deadlock the server's own text names who waited for whom.
    """
    cause = loss.__cause__ or loss
    told = getattr(cause, "diag", None)
    said = [getattr(cause, "sqlstate", None), str(cause)]
    said += [told.message_detail, told.context] if told is not None else []
    lines = traceback.extract_tb(loss.__traceback__)
    ours = [
        f"{Path(f.filename).name}:{f.lineno}" for f in lines if "site-packages" not in f.filename
    ]
    return " | ".join([type(loss).__name__, *(one for one in said if one), " > ".join(ours)])


def read(folder: Path) -> list[Request]:
    """All requests of all processes, in the order in which they began."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            raw = json.loads(line)
            raw["takes"] = tuple(raw["takes"]) if raw["takes"] else None
            found.append(Request(**raw))
    return sorted(found, key=lambda request: request.began)
