"""What is measured: clients that write entries of seven legs, by psycopg alone and by Django."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from django.db import connection, transaction
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import User
from bench.ledger import captures, plain
from bench.ledger.clients import run_clients
from ledger.models import Account, Entry, Hold
from ledger.reconciliation import check_ledger
from ledger.services import writing
from ledger.services.opening import Wanted, accounts_for, open_accounts
from ledger.services.posting import Cause, Draft, Leg, Refs, post_entries, post_entry
from ledger.services.settlement import Credit, Settlement, settle_many

# A batch touches hundreds of contributors; of too few, all clients would want the same rows.
CONTRIBUTORS_IN_ALL = 1_000
PEOPLE = 1_000
LIVED = 20_000
LEGS = 7
FUNDS = 10**27
NUMERIC_AMOUNT = 10**15
SUSPENDED_AT_ONCE = 2_000
# Completions that a client may settle in a second: more than it can, so that none runs dry.
SETTLED_A_SECOND = 600
# Of all clients: as many as are held beforehand, and how many end together.
CAPTURED_A_SECOND = 1_200
CAPTURED_AT_ONCE = 10
CONTRIBUTORS = LEGS - 1
# An account without shards whose balance no other table explains, so that all books still agree.
HOT = Account.Kind.UNASSIGNED
SHARES = (10**9 - 5 * (10**9 // 6), *[10**9 // 6] * 5)

# Writes one entry, or one batch; returns how many entries that were.
Write = Callable[[], int]


class World:
    """A thousand people with funds, and completions whose fees wait in suspense."""

    def __init__(self, clients: int, batch: int, seconds: float, rounds: int) -> None:
        self.clients, self.batch, self.seconds = clients, batch, seconds
        people = [
            User(email=f"{n}@bench.test", handle=f"bench-{n}", password="!")
            for n in range(CONTRIBUTORS_IN_ALL)
        ]
        User.objects.bulk_create(people)
        self.contributors = [person.pk for person in people]
        accounts = accounts_for(Account.Kind.EARNINGS, self.contributors)
        self.paid = [accounts[owner].pk for owner in self.contributors]
        self.owners, self.people = self.contributors[:PEOPLE], self.paid[:PEOPLE]
        self.gateway = accounts_for(Account.Kind.GATEWAY, [None])[None]
        self.hot = accounts_for(HOT, [None])[None]
        _fund(self.gateway, [accounts[owner] for owner in self.contributors], FUNDS)
        needed = int(min(SETTLED_A_SECOND * clients, 8_000) * seconds * rounds / clients)
        self.suspended = [self._suspend(needed) for _ in range(2 * clients)]
        # For one by one and for together, of every client and round.
        wanted = int(min(CAPTURED_A_SECOND * seconds, 8_000) * rounds / clients) + 40
        holds = captures.hold_many(people, wanted * 2 * clients)
        self.held = [holds[n * wanted : (n + 1) * wanted] for n in range(2 * clients)]
        self._live()
        plain.copy_tables(connection)
        connection.close()

    def _live(self) -> None:
        """Entries of earlier days, and what autovacuum knows by then: plans are made for those."""
        chance, accounts = random.Random(7), accounts_for(Account.Kind.EARNINGS, self.contributors)
        for first in range(0, LIVED, 1_000):
            drafts = [
                Draft(
                    Entry.Kind.CAPTURE,
                    f"before:{number}",
                    [
                        Leg(accounts[owner], amount)
                        for owner, amount in zip(
                            chance.sample(self.contributors, LEGS), _amounts(), strict=True
                        )
                    ],
                    timezone.now(),
                )
                for number in range(first, first + 1_000)
            ]
            for posted in post_entries(drafts):
                posted.get()

    def peers(self) -> dict[str, Callable[[], float]]:
        ask = partial(run_clients, clients=self.clients, seconds=self.seconds)
        return {
            "ceiling, hot account": lambda: ask(lambda n: self._raw(n, writing.POST, hot=True)),
            "Django, hot account": lambda: ask(lambda n: self._django(n, hot=True)),
            "ceiling, spread": lambda: ask(lambda n: self._raw(n, writing.POST)),
            "Django, spread": lambda: ask(lambda n: self._django(n)),
            "Django, captures": lambda: ask(
                lambda n: captures.one_by_one(self._round_of(self.held[n]))
            ),
            "Django, 10 captures at once": lambda: ask(
                lambda n: captures.together(
                    self._round_of(self.held[self.clients + n]), CAPTURED_AT_ONCE
                )
            ),
            "no triggers, spread": lambda: ask(lambda n: self._raw(n, plain.POST)),
            "no triggers and bigint, spread": lambda: ask(lambda n: self._raw(n, plain.BIGINT)),
            "ceiling, settlement": lambda: ask(lambda n: self._raw_settlement(n)),
            "Django, settlement": lambda: ask(lambda n: self._django_settlement(n)),
            "no triggers, settlement": lambda: ask(lambda n: self._raw_batch(n, plain.POST)),
            "no triggers and bigint, settlement": lambda: ask(
                lambda n: self._raw_batch(n, plain.BIGINT)
            ),
        }

    def _round_of(self, holds: list[Hold]) -> list[Hold]:
        """Those that no client of an earlier round took: a forked client empties its own copy."""
        pending = set(
            Hold.objects.filter(
                pk__in=[hold.pk for hold in holds], state=Hold.State.PENDING
            ).values_list("pk", flat=True)
        )
        return [hold for hold in holds if hold.pk in pending]

    def wrong(self) -> list[str]:
        """Those of the ledger's comparisons that differ after all that."""
        return [finding.name for finding in check_ledger() if not finding.holds]

    # ------------------------------------------------------------------ one entry at a time

    def _raw(self, client: int, statement: LiteralString, *, hot: bool = False) -> Write:
        """The statement prepared on the server, each in a transaction of its own."""
        raw = connected()
        chance = random.Random(f"{client} {timezone.now()}")

        def write() -> int:
            values = raw_parameters([self._seven(chance, hot=hot)])
            return len(raw.execute(statement, values, prepare=True).fetchall())

        return write

    def _django(self, client: int, *, hot: bool = False) -> Write:
        """As `capture_hold` posts: the accounts are looked up and the entry is posted."""
        chance = random.Random(f"{client} {timezone.now()}")

        def write() -> int:
            owners = chance.sample(self.owners, LEGS)
            wanted = [Wanted(Account.Kind.EARNINGS, owner) for owner in owners]
            if hot:
                wanted[-1] = Wanted(HOT)
            cause = uuid7()
            refs = Refs(completion=cause)
            with transaction.atomic():
                accounts = open_accounts(wanted)
                legs = [
                    Leg(accounts[one], amount, refs)
                    for one, amount in zip(wanted, _amounts(), strict=True)
                ]
                post_entry(
                    kind=Entry.Kind.CAPTURE,
                    key=f"capture:{cause}",
                    legs=legs,
                    at=timezone.now(),
                    cause=Cause("bench", cause),
                    parameter_version=1,
                )
            return 1

        return write

    def _seven(self, chance: random.Random, *, hot: bool) -> list[tuple[UUID, int]]:
        chosen = chance.sample(self.people, LEGS)
        if hot:
            chosen[-1] = self.hot.pk
        return list(zip(chosen, _amounts(), strict=True))

    # ------------------------------------------------------------------ settlement in batches

    def _raw_settlement(self, client: int) -> Write:
        """The same statement with a batch of entries out of suspense, planned for its size."""
        batches = self._batches(self.suspended[client])
        raw = connected()
        chance = random.Random(client)

        def write() -> int:
            rows = [
                [(suspense, -sum(_sixths())), *zip(self._six(chance), _sixths(), strict=True)]
                for suspense, _ in next(batches)
            ]
            return len(raw.execute(writing.POST, raw_parameters(rows), prepare=False).fetchall())

        return write

    def _django_settlement(self, client: int) -> Write:
        batches = self._batches(self.suspended[self.clients + client])
        chance = random.Random(client)

        def write() -> int:
            settlements = [
                Settlement(
                    completion,
                    [
                        Credit("contributor", owner, share)
                        for owner, share in zip(
                            chance.sample(self.contributors, CONTRIBUTORS), SHARES, strict=True
                        )
                    ],
                )
                for _, completion in next(batches)
            ]
            return len(settle_many(settlements=settlements, at=timezone.now()))

        return write

    def _raw_batch(self, client: int, statement: LiteralString) -> Write:
        """The copies of the tables know no suspense; a person pays instead."""
        raw = connected()
        chance = random.Random(client)

        def write() -> int:
            rows = [
                list(zip(chance.sample(self.paid, LEGS), _amounts(), strict=True))
                for _ in range(self.batch)
            ]
            return len(raw.execute(statement, raw_parameters(rows), prepare=False).fetchall())

        return write

    def _six(self, chance: random.Random) -> list[UUID]:
        return chance.sample(self.paid, CONTRIBUTORS)

    def _batches(self, found: list[tuple[UUID, UUID]]) -> Iterator[list[tuple[UUID, UUID]]]:
        """Takes from the list, which the next round's client has less of (see `run_clients`)."""
        while len(found) >= self.batch:
            yield [found.pop() for _ in range(self.batch)]

    def _suspend(self, count: int) -> list[tuple[UUID, UUID]]:
        """Suspense accounts with the contributors' part of a fee: (account, completion)."""
        found: list[tuple[UUID, UUID]] = []
        for first in range(0, count, SUSPENDED_AT_ONCE):
            owners = [uuid7() for _ in range(min(SUSPENDED_AT_ONCE, count - first))]
            accounts = accounts_for(Account.Kind.SUSPENSE, owners)
            _fund(self.gateway, [accounts[owner] for owner in owners], sum(_sixths()))
            found += [(accounts[owner].pk, owner) for owner in owners]
        return found


def raw_parameters(rows: list[list[tuple[UUID, int]]]) -> list[str]:
    """The statement's arrays, made by as little Python as can be."""
    now = timezone.now().isoformat()
    ids = [str(uuid7()) for _ in rows]
    count, legs = len(rows), [(one, leg) for one, row in zip(ids, rows, strict=True) for leg in row]
    same = partial(_repeated, count)
    nothing = _repeated(len(legs), "NULL")
    return [
        "{" + ",".join(ids) + "}",
        same("CAPTURE"),
        "{" + ",".join(f"capture:{one}" for one in ids) + "}",
        same("0" * 64),
        "{" + ",".join(str(len(row)) for row in rows) + "}",
        same("bench"),
        "{" + ",".join(ids) + "}",
        same("1"),
        same("NULL"),
        same("NULL"),
        same(f'"{now}"'),
        "{" + ",".join(str(uuid7()) for _ in legs) + "}",
        "{" + ",".join(one for one, _ in legs) + "}",
        "{" + ",".join(str(leg[0]) for _, leg in legs) + "}",
        "{" + ",".join(str(leg[1]) for _, leg in legs) + "}",
        nothing,
        nothing,
        "{" + ",".join(one for one, _ in legs) + "}",
        now,
    ]


def _repeated(count: int, word: str) -> str:
    return "{" + ",".join(itertools.repeat(word, count)) + "}"


def _amounts() -> list[int]:
    return [-6 * NUMERIC_AMOUNT, *[NUMERIC_AMOUNT] * 6]


def _sixths() -> list[int]:
    return [NUMERIC_AMOUNT] * CONTRIBUTORS


def _fund(gateway: Account, accounts: list[Account], amount: int) -> None:
    legs = [Leg(gateway, -amount * len(accounts)), *(Leg(one, amount) for one in accounts)]
    draft = Draft(Entry.Kind.DEPOSIT, f"bench:{uuid7()}", legs, timezone.now())
    post_entries([draft])[0].get()


def connected() -> psycopg.Connection[Any]:
    return psycopg.connect(**_address(), autocommit=True, cursor_factory=psycopg.RawCursor)


def _address() -> dict[str, Any]:
    found = connection.settings_dict
    return {
        "dbname": str(found["NAME"]),
        "user": str(found["USER"]),
        "host": str(found["HOST"]),
    }
