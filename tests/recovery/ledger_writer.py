"""One process that writes entries as fast as it can and never takes silence for an answer.

    python -m tests.recovery.ledger_writer prepare
    python -m tests.recovery.ledger_writer write NUMBER FOLDER
    python -m tests.recovery.ledger_writer check FOLDER

`write` goes on until FOLDER/stop is there. What was acknowledged goes to FOLDER/NUMBER.acks
(key and entry, one line each); what it did not answer is asked again under the same keys. `check`
prints what the database has of all that, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.db import InterfaceError, OperationalError, connection  # noqa: E402

from accounts.models import User  # noqa: E402
from ledger.models import Account, Entry  # noqa: E402
from ledger.reconciliation import check_ledger  # noqa: E402
from ledger.services.opening import account_for  # noqa: E402
from ledger.services.posting import Draft, Leg, Posted, post_entries  # noqa: E402
from tests.ledger.books import NOON, person  # noqa: E402

LARGEST_BATCH = 60
PATIENCE = 120.0  # seconds


def write(number: str, folder: Path) -> None:
    dice = random.Random(int(number))
    made = 0
    with (folder / f"{number}.acks").open("w") as acks:
        while not (folder / "stop").exists():
            # A third of the calls write one entry, as an answer does; the others settle many.
            size = 1 if dice.random() < 0.34 else dice.randrange(2, LARGEST_BATCH)
            plan = [(f"{number}:{made + n}", dice.randrange(1, 10**20)) for n in range(size)]
            made += size
            for key, posted in zip(plan, _until_answered(plan), strict=True):
                acks.write(f"{key[0]} {posted.get().pk}\n")
            acks.flush()


def _until_answered(plan: Sequence[tuple[str, int]]) -> list[Posted]:
    started = time.monotonic()
    while True:
        try:
            return post_entries(_drafts(plan))
        except (OperationalError, InterfaceError):
            connection.close()
            if time.monotonic() - started > PATIENCE:
                raise
            time.sleep(0.02)


def _drafts(plan: Sequence[tuple[str, int]]) -> list[Draft]:
    """The same keys and legs each time, so that asking again can be told from asking for more."""
    users = User.objects.order_by("pk")[:8]
    into = [account_for(Account.Kind.USER, user.pk) for user in users]
    out = account_for(Account.Kind.GATEWAY)
    return [
        Draft(
            kind=Entry.Kind.DEPOSIT,
            key=key,
            legs=[Leg(out, -amount), Leg(into[amount % len(into)], amount)],
            at=NOON,
        )
        for key, amount in plan
    ]


def prepare() -> None:
    for number in range(8):
        user = person(f"person-{number}")
        account_for(Account.Kind.USER, user.pk)
    account_for(Account.Kind.GATEWAY)


def check(folder: Path) -> None:
    acknowledged: dict[str, str] = {}
    asked_twice = 0
    for path in folder.glob("*.acks"):
        for line in path.read_text().splitlines():
            key, entry = line.split()
            asked_twice += key in acknowledged
            acknowledged[key] = entry
    kept = {
        key: str(pk) for key, pk in Entry.objects.values_list("idempotency_key", "pk").iterator()
    }
    told = {
        "acknowledged": len(acknowledged),
        "kept": len(kept),
        "asked_twice": asked_twice,
        "lost": [key for key in acknowledged if key not in kept][:5],
        "other": [key for key, pk in acknowledged.items() if kept.get(key, pk) != pk][:5],
        "unasked": [key for key in kept if key not in acknowledged][:5],
        "differences": [finding.name for finding in check_ledger() if not finding.holds],
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1] == "prepare":
        prepare()
    else:
        check(Path(sys.argv[2]))
