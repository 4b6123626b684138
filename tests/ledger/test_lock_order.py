"""Accounts are locked in the order of their ids, so that no two requests wait in a circle."""

import threading
import time
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection, transaction

from ledger.models import Account
from ledger.services.deposits import credit_deposit, grant_without_chain, undo_deposit
from ledger.services.holds import Refs
from ledger.services.opening import account_for
from ledger.services.settlement import Credit, settle_suspense
from ledger.services.withdrawals import request_withdrawal
from tests.ledger.books import FIRST, NOON, capture, earn, fund, hold_for, link, person

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 20  # seconds
Kind = Account.Kind


@contextmanager
def another_session():
    with psycopg.connect(**connection.get_connection_params()) as session:
        yield session


def wait_for_a_waiter(session, on):
    until = time.monotonic() + PATIENCE
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    while not session.execute(blocked, [on]).fetchone()[0]:
        assert time.monotonic() < until, "nobody waits for the account"
        session.rollback()
        time.sleep(0.02)


def held_while_it_waits_for(account, action):
    """Kinds of the accounts that `action` holds while somebody else has `account`."""
    failed = []

    def act():
        try:
            action()
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    with another_session() as blocker, another_session() as watcher:
        blocker.execute("SELECT FROM ledger_account WHERE id = %s FOR UPDATE", [account.pk])
        thread = threading.Thread(target=act)
        thread.start()
        try:
            wait_for_a_waiter(watcher, blocker.info.backend_pid)
            free = {
                row[0]
                for row in watcher.execute("SELECT id FROM ledger_account FOR UPDATE SKIP LOCKED")
            }
        finally:
            watcher.rollback()
            blocker.rollback()
            thread.join(PATIENCE)
    assert failed == []
    held = Account.objects.exclude(pk__in=free).exclude(pk=account.pk)
    return sorted(held.values_list("kind", flat=True))


def test_a_settlement_holds_nothing_while_it_waits_for_a_contributor():
    ada, bob = person("ada"), person("bob")
    first = account_for(Kind.EARNINGS, bob.pk)
    fund(ada, 100)
    hold = hold_for(ada, 100, model_owner=ada)
    capture(hold, 100)
    credits = [Credit("contributor", bob.pk, 10**9)]
    values = {"completion_id": hold.cause_id, "credits": credits, "at": NOON}

    assert held_while_it_waits_for(first, lambda: settle_suspense(**values)) == []
    assert account_for(Kind.EARNINGS, bob.pk).balance == 50


def test_a_vanished_deposit_holds_nothing_while_it_waits_for_the_gateway():
    ada = person("ada")
    place = {"chain_id": 1, "tx_hash": "0xAA", "log_index": 0, "at": NOON}
    gateway, user = account_for(Kind.GATEWAY), account_for(Kind.USER, ada.pk)
    credit_deposit(account_id=user.pk, amount=5, **place)
    account_for(Kind.RECEIVABLE, ada.pk)

    assert held_while_it_waits_for(gateway, lambda: undo_deposit(**place)) == []
    deposit = {"account_id": user.pk, "amount": 5, **place}
    assert held_while_it_waits_for(gateway, lambda: credit_deposit(**deposit)) == []


def test_a_grant_holds_nothing_while_it_waits_for_what_was_issued(settings):
    settings.CHAIN_ENABLED = False
    ada, issued = person("ada"), account_for(Kind.ISSUED)
    account_for(Kind.USER, ada.pk)
    values = {"user": ada, "amount": 5, "acting_user": None, "key": "k", "at": NOON}
    assert held_while_it_waits_for(issued, lambda: grant_without_chain(**values)) == []


def test_a_withdrawal_holds_nothing_while_it_waits_for_what_is_under_way(settings, deployed):
    settings.WITHDRAWAL_MINIMUM_WEI = 1
    ada = person("ada")
    link(ada, FIRST)
    under_way = account_for(Kind.WITHDRAWING, ada.pk)
    earn(ada, 50)
    values = {"user": ada, "source": Kind.EARNINGS, "address": FIRST, "amount": 5, "key": "k"}
    ask = lambda: request_withdrawal(**values, acting_user=ada, at=NOON)  # noqa: E731
    assert held_while_it_waits_for(under_way, ask) == []


def test_what_is_asked_for_again_waits_for_no_account():
    ada = person("ada")
    fund(ada, 100)
    hold = hold_for(ada, 100, model_owner=ada)
    refs = Refs(completion=hold.cause_id)
    captured = capture(hold, 60, refs=refs)
    with another_session() as blocker:
        blocker.execute("SELECT FROM ledger_account FOR UPDATE")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '2s'")
            assert capture(hold, 60, refs=refs) == captured
        blocker.rollback()
