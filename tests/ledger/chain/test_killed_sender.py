"""The sender's process dies between any two steps, or sleeps while another sends: paid once.

`KILLS=50` kills it fifty times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from config.embedded.paths import REPOSITORY
from ledger.models.chain import ChainWallet, Intent, IntentAttempt
from tests.chain_fixtures import Chain
from tests.ledger.chain.paying import Payer, ask_for
from tests.ledger.test_history import url_of_the_test_database

KILLS = int(os.environ.get("KILLS", "8"))
LEASE = 31.0  # seconds; what a dead sender held is free then
AT_ONCE = 3


class Nursery:
    """Lives of a sender on the test's database and chain, each a fork of `process` (`mortal`)."""

    def __init__(self, process: subprocess.Popen[str], chain: Chain) -> None:
        self.process = process
        self.chain = chain
        self.ahead = 0.0

    def begin(self, **fields: Any) -> int:
        """A life that finds the lease of the last one over; returns its process id."""
        self.ahead += LEASE
        life = {"url": self.chain.url, "deployment": str(self.chain.path), "ahead": self.ahead}
        pid: int = self._ask({"live": life | {"rounds": 2} | fields})
        return pid

    def end(self, pid: int) -> dict[str, Any]:
        end: dict[str, Any] = self._ask({"wait": pid})
        assert not end.get("failed"), end["said"]
        return end

    def live(self, **fields: Any) -> dict[str, Any]:
        return self.end(self.begin(**fields))

    def _ask(self, command: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(command)}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def mother(django_db_setup: None) -> Iterator[subprocess.Popen[str]]:
    mother = subprocess.Popen(
        [sys.executable, "-m", "tests.ledger.chain.mortal"],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": url_of_the_test_database()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield mother
    mother.kill()
    mother.communicate()


@pytest.fixture
def nursery(
    mother: subprocess.Popen[str], chain_settings: Chain, transactional_db: None
) -> Nursery:
    return Nursery(mother, chain_settings)


@pytest.fixture
def payer(nursery: Nursery, chain_settings: Chain) -> Payer:
    return Payer(chain_settings)


def settle(nursery: Nursery) -> None:
    """One more life, to the end of everything."""
    for _ in range(4):
        nursery.live(rounds=12)
        if not Intent.objects.exclude(state__in=Intent.SETTLED).exists():
            return
    states = sorted(Intent.objects.values_list("state", flat=True))
    raise AssertionError(f"not settled: {states}")


def where_to_die(dice: random.Random, places: int) -> Iterator[dict[str, Any]]:
    """First where most is at stake, then all over a life of so many places, each part in turn."""
    yield {"where": "after signing", "at": AT_ONCE}  # signed, not kept
    yield {"where": "before batch of eth_sendRawTransaction", "at": 1}  # kept, not sent
    yield {"where": "after batch of eth_sendRawTransaction", "at": 1}  # sent, not written down
    yield {"where": "after batch of eth_getTransactionReceipt", "at": 1}  # mined, not written down
    parts = max(2, KILLS // 2)
    while True:
        for part in range(parts):
            yield {"at": max(1, round((part + dice.random()) * places / parts))}


def test_a_sender_that_is_killed_between_any_two_steps_pays_once(nursery, payer) -> None:
    """A third of the deaths come from outside, at any moment of the process."""
    dice = random.Random(20_261_125)
    ask_for(AT_ONCE)
    began = time.monotonic()
    places = int(nursery.live()["said"])
    whole = time.monotonic() - began
    plan = where_to_die(dice, places)

    deaths: list[str] = []
    lives, asked = 0, AT_ONCE
    while len(deaths) < KILLS:
        lives += 1
        assert lives < 4 * KILLS + 20, f"only {len(deaths)} of {lives} lives were killed"
        # None knows its gas beforehand every third time, so that the node is asked for it.
        ask_for(AT_ONCE, first=asked, gas_limit=None if dice.random() < 0.3 else 21_000)
        asked += AT_ONCE
        if lives % 3:
            end = nursery.live(**next(plan))
        else:
            pid = nursery.begin()
            time.sleep(dice.random() * whole)
            os.kill(pid, signal.SIGKILL)
            end = nursery.end(pid)
        if end["killed"]:
            deaths.append(end["said"] or "at some moment")
        if dice.random() < 0.2:
            payer.chain.mine()

    settle(nursery)
    payer.paid_once(list(Intent.objects.all()))
    payer.contiguous(asked)
    # A bump is bytes of the same nonce: of an intent's attempts one is paid, and most need one.
    assert IntentAttempt.objects.count() < 2 * asked
    kept_from_dying = {"before COMMIT", "after COMMIT"} - set(deaths)
    assert KILLS < 50 or not kept_from_dying, deaths


@pytest.mark.parametrize(
    ("place", "woken"),
    [
        # It has read what is new, and would sign it now: the wallet's row says no.
        ("after batch of eth_estimateGas", "lost its lease"),
        # It has signed and not sent, or sent and not written that down: the same bytes, twice.
        ("before batch of eth_sendRawTransaction", ""),
        ("after batch of eth_sendRawTransaction", ""),
        # It has seen them mined.
        ("after batch of eth_getTransactionReceipt", ""),
    ],
)
def test_a_sender_that_sleeps_past_its_lease_pays_nothing_twice(
    nursery, payer, place, woken
) -> None:
    """It stops between two transactions, and wakes when another has paid everything."""
    intents = ask_for(5, gas_limit=None)
    sleeper = nursery.begin(at=1, where=place, sign=signal.SIGSTOP)
    asleep = nursery.end(sleeper)
    assert (asleep.get("stopped"), asleep["said"]) == (True, place)

    settle(nursery)
    payer.paid_once(intents)
    more = ask_for(2, first=5)
    os.kill(sleeper, signal.SIGCONT)
    end = nursery.end(sleeper)
    assert not end["killed"]
    assert end["said"].removeprefix(place).startswith(woken)

    settle(nursery)
    payer.paid_once([*intents, *more])
    payer.contiguous(7)


def test_two_senders_at_once_on_one_wallet_take_turns(nursery, payer) -> None:
    intents = ask_for(40)
    both = [nursery.begin(rounds=15, mines=False) for _ in range(2)]
    for _ in range(6):
        payer.mine()
        time.sleep(0.1)
    assert [nursery.end(pid)["killed"] for pid in both] == [False, False]
    settle(nursery)
    payer.paid_once(intents)
    payer.contiguous(40)
    assert ChainWallet.objects.get(address=payer.address).lease_owner == ""
