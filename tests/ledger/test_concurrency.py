"""Many at once on a real PostgreSQL: no wei is lost or doubled, whoever comes first."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Sum

from accounts.ids import uuid7
from ledger.errors import HoldClosed, HoldExpired, InsufficientFunds
from ledger.models import Account, Entry, Hold
from ledger.reconciliation import check_ledger
from ledger.services.distributions import publish_distribution
from ledger.services.holds import Refs, release_expired_holds, release_hold
from ledger.services.settlement import Credit, settle_suspense
from ledger.services.transfers import make_earnings_spendable
from tests.ledger.books import NOON, OPEN, balance_of, capture, earn, fund, hold_for, link, person

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 6
WHOLE = 10**9


def together(actions):
    """Run all actions on THREADS threads with connections of their own; return their results."""

    def alone(action):
        try:
            return action()
        except (InsufficientFunds, HoldClosed, HoldExpired) as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(alone, actions))


def wrong():
    return {finding.name: finding.difference for finding in check_ledger() if not finding.holds}


class Job:
    """A completion that is delivered twice, by two workers, in any order."""

    def __init__(self, payer, builder, contributor, number):
        self.payer, self.builder, self.contributor = payer, builder, contributor
        self.cause, self.model = uuid7(), uuid7()
        self.amount = 1000 + number
        self.price = None if number % 4 == 0 else 1 + number * 7 % self.amount

    def __call__(self):
        hold = hold_for(self.payer, self.amount, cause_id=self.cause, model_owner=self.builder)
        if self.price is None:
            return release_hold(hold=hold, reason="It failed.", acting_user=None, at=NOON).pk
        entry = capture(
            hold,
            self.price,
            refs=Refs(model=self.model, completion=self.cause),
        )
        settle_suspense(
            completion_id=self.cause,
            at=NOON,
            credits=[Credit("contributor", self.contributor.pk, WHOLE)],
        )
        return entry.pk


def test_work_that_is_delivered_twice_is_paid_once():
    payers = [person(f"payer-{number}") for number in range(3)]
    for payer in payers:
        fund(payer, OPEN)
    builder, contributor = person("builder"), person("contributor")
    jobs = [Job(payers[n % 3], builder, contributor, n) for n in range(48)]
    deliveries = jobs * 2
    random.Random(7).shuffle(deliveries)

    results = together(deliveries)

    by_job = {}
    for job, result in zip(deliveries, results, strict=True):
        by_job.setdefault(job, set()).add(result)
    assert all(len(entries) == 1 for entries in by_job.values())
    spent = sum(job.price or 0 for job in jobs)
    assert sum(balance_of("USER", payer.pk) for payer in payers) == 3 * OPEN - spent
    assert Entry.objects.filter(kind=Entry.Kind.HOLD).count() == len(jobs)
    assert wrong() == {}


def test_a_balance_is_spent_once_however_many_ask():
    payer = person("payer")
    fund(payer, 10 * OPEN)

    results = together([lambda: hold_for(payer, 6 * OPEN)] * 12)

    assert sum(isinstance(result, Hold) for result in results) == 1
    assert balance_of("USER", payer.pk) == 4 * OPEN
    assert wrong() == {}


def test_a_capture_and_the_sweeper_never_both_win():
    payer = person("payer")
    fund(payer, OPEN)
    end = NOON + timedelta(minutes=1)
    holds = [hold_for(payer, 1000, expires_at=end) for _ in range(24)]
    captures = [lambda hold=hold: capture(hold, 600) for hold in holds]
    sweeps = [lambda: release_expired_holds(at=end)] * 6
    actions = captures + sweeps
    random.Random(3).shuffle(actions)

    together(actions)
    release_expired_holds(at=end)

    captured = Hold.objects.filter(state=Hold.State.CAPTURED).count()
    released = Hold.objects.filter(state=Hold.State.RELEASED).count()
    assert captured + released == 24
    assert balance_of("USER", payer.pk) == OPEN - 600 * captured
    assert wrong() == {}


def test_publishing_while_people_earn_and_spend_moves_each_wei_once():
    people = [person(f"person-{number}") for number in range(3)]
    for number, user in enumerate(people):
        link(user, f"0x{number + 1:040x}")
    actions = [
        *[lambda n=n: earn(people[n % 3], 100 + n, n) for n in range(24)],
        *[lambda: publish_distribution(at=NOON, acting_user=None)] * 6,
        *[lambda n=n: spend(people[n % 3], 50, str(n)) for n in range(12)],
    ]
    random.Random(5).shuffle(actions)

    together(actions)

    earned = sum(100 + n for n in range(24))
    accounts = Account.objects.filter(kind__in=["EARNINGS", "ESCROW", "USER"])
    assert accounts.aggregate(total=Sum("balance"))["total"] == earned
    assert wrong() == {}


def spend(user, amount, key):
    return make_earnings_spendable(user=user, amount=amount, key=key, acting_user=None, at=NOON)


def test_an_account_that_many_need_at_once_is_opened_once():
    from ledger.services.opening import account_for

    owner = uuid7()

    opened = together([lambda: account_for(Account.Kind.TREASURY, owner).pk] * 12)

    assert len(set(opened)) == 1
