"""Answers that wait together are settled together: one transaction, each exactly once."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.conf import settings

from accounts import leases
from attribution import workers
from attribution.bodies import Evidence
from attribution.groups import Group
from attribution.models import Attribution, Receipt
from attribution.services import receipts, writing
from attribution.services.writing import Scored
from config.embedded.paths import REPOSITORY
from ledger.models import Account, Entry
from ledger.reconciliation import check_ledger
from ledger.services import settlement
from tests.attribution.world import NOON, queued
from tests.ledger.books import balance_of
from tests.ledger.test_history import url_of_the_test_database

State = Attribution.State
LATER = NOON + timedelta(minutes=5)


@pytest.fixture
def settled(monkeypatch):
    """How many completions each call of the ledger settled, by a worker that gathers for long."""
    monkeypatch.setattr(workers, "GATHERING", timedelta(minutes=1))
    sizes = []
    real = settlement.settle_many

    def counted(*, settlements, at):
        sizes.append(len(settlements))
        return real(settlements=settlements, at=at)

    monkeypatch.setattr(writing, "settle_many", counted)
    return sizes


def group_of(world, person):
    return str(Group(person.pk, world.datanet.pk, world.version.pk))


def helped(world, person):
    group = group_of(world, person)
    return Evidence(influences={group: 5}, counts={group: 1})


def claimed(asked, owner="worker"):
    for one in asked:
        assert receipts.claim(attribution_id=one.pk, owner=owner, at=NOON)
    return asked


def test_a_worker_settles_what_waits_beside_its_own_in_one_transaction(indexed, settled):
    asked = [indexed.ask() for _ in range(3)]
    indexed.ask(base_only=True)
    workers.attribute(asked[1].pk)
    assert settled == [3]
    assert {receipt.attribution_id for receipt in Receipt.objects.all()} == {
        one.pk for one in asked
    }
    for receipt in Receipt.objects.all():
        assert balance_of(Account.Kind.SUSPENSE, receipt.completion_id) == 0
        assert sum(share.amount for share in receipt.shares.all()) == receipt.amount > 0
    assert Entry.objects.filter(kind=Entry.Kind.SETTLEMENT).count() == 3
    assert len(queued("sequence_log")) == 2  # that of the index, and one for all three
    assert [finding.name for finding in check_ledger() if not finding.holds] == []


def test_the_messages_of_what_was_taken_along_find_nothing_to_do(indexed, settled):
    asked = [indexed.ask() for _ in range(3)]
    for one in asked:
        workers.attribute(one.pk)
    assert settled == [3]
    assert Receipt.objects.count() == 3


def test_the_first_waits_for_others_no_longer_than_it_is_allowed(indexed, settled, monkeypatch):
    monkeypatch.setattr(workers, "GATHERING", timedelta(0))
    asked = [indexed.ask() for _ in range(2)]
    workers.attribute(asked[0].pk)
    assert settled == [1]
    assert Receipt.objects.get().attribution_id == asked[0].pk


def test_one_that_cannot_be_scored_or_written_takes_no_other_along(indexed, monkeypatch):
    good, unscored, unwritten = (indexed.ask() for _ in range(3))
    monkeypatch.setattr(workers, "GATHERING", timedelta(minutes=1))
    real_evidence, real_rows = workers.find_evidence, writing._add_rows

    def evidence(attribution):
        if attribution.pk == unscored.pk:
            raise ValueError
        return real_evidence(attribution)

    def rows(works, receipts):
        if any(work.attribution.pk == unwritten.pk for work in works):
            raise ValueError
        real_rows(works, receipts)

    monkeypatch.setattr(workers, "find_evidence", evidence)
    monkeypatch.setattr(writing, "_add_rows", rows)
    workers.attribute(good.pk)

    assert Receipt.objects.get().attribution_id == good.pk
    states = dict(Attribution.objects.values_list("pk", "state"))
    assert states == {good.pk: "DONE", unscored.pk: "FAILED", unwritten.pk: "FAILED"}
    assert balance_of(Account.Kind.SUSPENSE, unwritten.completion_id) > 0


def test_what_was_taken_away_meanwhile_is_left_out_and_the_rest_is_written(world):
    kept, lost = claimed([world.ask(), world.ask()])
    receipts.requeue(lost.pk, NOON)
    scored = [Scored(one.pk, helped(world, world.alice)) for one in (kept, lost)]
    written = writing.write_receipts(owner="worker", scored=scored, at=NOON)
    assert [receipt.attribution_id for receipt in written] == [kept.pk]
    assert writing.write_receipts(owner="worker", scored=scored, at=NOON) == []
    assert balance_of(Account.Kind.SUSPENSE, lost.completion_id) > 0


def test_statements_do_not_grow_with_the_receipts(world, django_assert_max_num_queries):
    asked = claimed([world.ask() for _ in range(8)])
    scored = [Scored(one.pk, helped(world, world.bob)) for one in asked]
    with django_assert_max_num_queries(30):
        writing.write_receipts(owner="worker", scored=scored, at=NOON)
    assert Receipt.objects.count() == 8


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_killed_in_between_has_settled_nothing_and_all_is_done_once(world):
    asked = [world.ask() for _ in range(3)]
    ids = [str(one.pk) for one in asked]
    command = [sys.executable, "-m", "tests.attribution.killed_settler"]
    environment = {**os.environ, "DATABASE_URL": url_of_the_test_database(), "CHAIN_ENABLED": "0"}
    died = subprocess.run(
        [*command, group_of(world, world.alice), *ids],
        cwd=REPOSITORY,
        env=environment,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert not Entry.objects.filter(kind=Entry.Kind.SETTLEMENT).exists()
    assert {one.state for one in Attribution.objects.all()} == {State.RUNNING}

    assert leases.sweep(at=NOON + settings.WORK_LEASE + timedelta(seconds=1)) == 3
    scored = [Scored(one.pk, helped(world, world.alice)) for one in claimed(asked, "next")]
    assert len(writing.write_receipts(owner="next", scored=scored, at=LATER)) == 3
    assert writing.write_receipts(owner="next", scored=scored, at=LATER) == []
    paid = sum(receipt.amount for receipt in Receipt.objects.all())
    assert balance_of(Account.Kind.EARNINGS, world.alice.pk) == paid > 0
    assert [finding.name for finding in check_ledger() if not finding.holds] == []
