"""One process that pays, earns and spends as its seed says, and records what it was told.

    python -m tests.ledger.history.worker PLAN NUMBER

PLAN is a JSON file: people, jobs, how many requests, the seed and the folder of the histories.
Every job is handed to two processes, as a broker may deliver it twice. The processes share nothing
but the database in DATABASE_URL, which may die at any time: what was not answered is asked again.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.db import InterfaceError, OperationalError, connection  # noqa: E402

from accounts.models import User  # noqa: E402
from ledger.errors import LedgerError  # noqa: E402
from ledger.models import Hold  # noqa: E402
from ledger.services.holds import Refs, release_hold  # noqa: E402
from ledger.services.settlement import Credit, settle_suspense  # noqa: E402
from ledger.services.transfers import make_earnings_spendable  # noqa: E402
from tests.ledger.books import NOON, capture, fund, hold_for, publish  # noqa: E402
from tests.ledger.history.record import DONE, UNKNOWN, Recorder, Request  # noqa: E402

LOSSES = (OperationalError, InterfaceError)
WHOLE = 10**9
FIRST_DEPOSITS = 8
AGAIN_AFTER, GIVE_UP_AFTER = 0.05, 120.0  # seconds


class Worker:
    def __init__(self, plan: dict[str, Any], number: int, recorder: Recorder) -> None:
        self.random = random.Random(plan["seed"] * 1000 + number)
        self.number, self.recorder = number, recorder
        self.people = self._again(lambda: list(User.objects.filter(pk__in=plan["people"])))
        self.jobs = [job for n, job in enumerate(plan["jobs"]) if self._is_mine(n, plan)]
        self.requests, self.publishes = plan["requests"], plan["publishes"]
        self.made = 0

    def _is_mine(self, job: int, plan: dict[str, Any]) -> bool:
        return self.number in (job % plan["processes"], (job + 1) % plan["processes"])

    def run(self) -> None:
        self.random.shuffle(self.jobs)
        others = [self.deposit, self.spend, self.spend]
        # Nothing names a publication beforehand: one that was not answered cannot be asked again.
        others += [self.publish] if self.publishes else []
        for _ in range(FIRST_DEPOSITS):
            self.deposit()
        for _ in range(self.requests):
            if self.jobs and self.random.random() < 0.7:
                self.job(self.jobs.pop())
            else:
                self.random.choice(others)()

    def ask(
        self, label: str, action: Callable[[], Any], takes: tuple[str, str, int] | None = None
    ) -> Request:
        """Ask until there is an answer."""
        started = time.monotonic()
        while True:
            request = self.recorder.ask(
                label, action, takes=takes, refusals=(LedgerError,), losses=LOSSES
            )
            if request.outcome != UNKNOWN:
                return request
            connection.close()
            if time.monotonic() - started > GIVE_UP_AFTER:
                raise SystemExit(f"{label}: the database does not come back")
            time.sleep(AGAIN_AFTER)

    def deposit(self) -> None:
        user, amount, number = self.random.choice(self.people), self._amount(), self._next()
        self.ask(f"deposit {number}", lambda: fund(user, amount, number))

    def spend(self) -> None:
        user, amount, number = (
            self.random.choice(self.people),
            self._amount() // 4 + 1,
            self._next(),
        )
        takes = ("EARNINGS", str(user.pk), amount)
        values = {"user": user, "amount": amount, "key": str(number)}
        self.ask(
            f"spend {number}",
            lambda: make_earnings_spendable(**values, acting_user=None, at=NOON),
            takes,
        )

    def publish(self) -> None:
        def entry() -> Any:
            made = publish()
            return made.entry if made else None

        if self.random.random() < 0.3:
            self.ask(f"publish {self._next()}", entry)

    def job(self, job: dict[str, Any]) -> None:
        """Hold, capture or release, settle: what two workers do with one completion."""
        payer = next(user for user in self.people if str(user.pk) == job["payer"])
        cause = UUID(job["cause"])
        held = self.ask(
            f"hold {cause}",
            lambda: (
                hold_for(payer, job["amount"], cause_id=cause, model_owner=self.people[0]).opened_by
            ),
            ("USER", job["payer"], job["amount"]),
        )
        if held.outcome != DONE:
            return
        hold = self._again(lambda: Hold.objects.get(cause_id=cause))
        if job["price"] is None:
            values = {"hold": hold, "reason": "It failed.", "acting_user": None, "at": NOON}
            self.ask(f"release {cause}", lambda: release_hold(**values))
            return
        contributor = self.people[job["contributor"]]
        refs = Refs(model=cause, completion=cause)
        self.ask(f"capture {cause}", lambda: capture(hold, job["price"], refs=refs))
        credits = [Credit("contributor", contributor.pk, WHOLE)]
        self.ask(
            f"settle {cause}",
            lambda: settle_suspense(completion_id=cause, credits=credits, at=NOON),
        )

    def _again(self, read: Callable[[], Any]) -> Any:
        started = time.monotonic()
        while True:
            try:
                return read()
            except LOSSES:
                connection.close()
                if time.monotonic() - started > GIVE_UP_AFTER:
                    raise
                time.sleep(AGAIN_AFTER)

    def _amount(self) -> int:
        return self.random.randrange(1, 2_000)

    def _next(self) -> int:
        """A number that no other process gives out."""
        self.made += 1
        return (self.number + 1) * 10_000_000 + self.made


def main(plan_path: str, number: str) -> None:
    plan = json.loads(Path(plan_path).read_text())
    with Path(plan["folder"], f"{number}.jsonl").open("w") as file:
        Worker(plan, int(number), Recorder(int(number), file)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
