"""Several processes on one database, the history that they leave, and the entries they made."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accounts.ids import uuid7
from accounts.models import User
from config.embedded.paths import REPOSITORY
from ledger.models import Posting
from tests.ledger.history.check import Kept


def plan(
    folder: Path,
    people: Sequence[User],
    *,
    processes: int,
    jobs: int,
    requests: int,
    seed: int,
    publishes: bool,
) -> Path:
    """Write down who does what; a fifth of the jobs fail, the others cost up to their hold."""
    dice = random.Random(seed)
    made: list[dict[str, Any]] = []
    for _ in range(jobs):
        amount = dice.randrange(10, 3_000)
        price = None if dice.random() < 0.2 else dice.randrange(1, amount + 1)
        made.append(
            {
                "cause": str(uuid7()),
                "payer": str(dice.choice(people).pk),
                "amount": amount,
                "price": price,
                "contributor": dice.randrange(len(people)),
            }
        )
    path = folder / "plan.json"
    told = {
        "people": [str(user.pk) for user in people],
        "jobs": made,
        "processes": processes,
        "requests": requests,
        "seed": seed,
        "publishes": publishes,
        "folder": str(folder),
    }
    path.write_text(json.dumps(told))
    return path


def start(path: Path, *, processes: int, database_url: str) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.ledger.history.worker", str(path)]
    environment = {**os.environ, "DATABASE_URL": database_url, "CHAIN_ENABLED": "0"}
    return [
        subprocess.Popen([*command, str(number)], cwd=REPOSITORY, env=environment)
        for number in range(processes)
    ]


def kept_entries() -> list[Kept]:
    """All entries, with what each moved on each logical account."""
    moves: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    rows = Posting.objects.values_list(
        "entry_id", "account__kind", "account__owner_id", "amount"
    ).order_by("id")
    for entry, kind, owner, amount in rows.iterator():
        moves[str(entry)][kind, str(owner or "")] += amount
    return [Kept(entry, dict(moved)) for entry, moved in moves.items()]
