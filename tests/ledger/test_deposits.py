"""OPEN that comes in is credited once, to whom it names."""

from datetime import timedelta

import pytest

from accounts.ids import uuid7
from accounts.models import Notification
from ledger.errors import IdempotencyConflict, InvalidAmount, LimitReached, WaitingForChain
from ledger.models import Account
from ledger.services.deposits import credit_deposit, grant_without_chain
from ledger.services.opening import account_for
from tests.ledger.books import NOON, OPEN, balance_of

pytestmark = pytest.mark.django_db


def deposit(account_id, amount=OPEN, **changes):
    values = {
        "account_id": account_id,
        "amount": amount,
        "chain_id": 31337,
        "tx_hash": "0xAB",
        "log_index": 3,
        "at": NOON,
    }
    return credit_deposit(**values | changes)


def grant(user, amount, key="k", at=NOON):
    return grant_without_chain(user=user, amount=amount, acting_user=user, key=key, at=at)


@pytest.fixture
def account(contributor):
    return account_for(Account.Kind.USER, contributor.pk)


def test_a_deposit_is_credited_and_told(contributor, account):
    deposit(account.pk)

    assert balance_of(Account.Kind.USER, contributor.pk) == OPEN
    assert balance_of(Account.Kind.GATEWAY) == -OPEN
    assert Notification.objects.get(user=contributor).title == "1 OPEN arrived in your balance"


def test_a_log_is_credited_once_whatever_the_case_of_its_hash(contributor, account):
    assert deposit(account.pk) == deposit(account.pk, tx_hash="0xab")
    assert balance_of(Account.Kind.USER, contributor.pk) == OPEN


def test_two_logs_of_one_transaction_are_two_deposits(contributor, account):
    deposit(account.pk)
    deposit(account.pk, log_index=4)

    assert balance_of(Account.Kind.USER, contributor.pk) == 2 * OPEN


def test_the_same_log_with_another_amount_is_refused(account):
    deposit(account.pk)

    with pytest.raises(IdempotencyConflict):
        deposit(account.pk, amount=2 * OPEN)


def test_a_deposit_to_an_unknown_account_is_kept_apart():
    deposit(uuid7())

    assert balance_of(Account.Kind.UNASSIGNED) == OPEN
    assert balance_of(Account.Kind.GATEWAY) == -OPEN


def test_a_deposit_to_an_account_that_is_no_spendable_balance_is_kept_apart():
    deposit(account_for(Account.Kind.PLATFORM).pk)

    assert balance_of(Account.Kind.PLATFORM) == 0
    assert balance_of(Account.Kind.UNASSIGNED) == OPEN


@pytest.mark.parametrize("amount", [0, -1, 1.0, 2**256])
def test_a_deposit_of_no_amount_is_refused(account, amount):
    with pytest.raises(InvalidAmount):
        deposit(account.pk, amount=amount)


def test_without_a_chain_a_grant_is_given_once_and_limited(contributor, settings):
    settings.CHAIN_ENABLED = False

    grant(contributor, 600 * OPEN)
    grant(contributor, 600 * OPEN)
    with pytest.raises(LimitReached, match="400 are left"):
        grant(contributor, 401 * OPEN, key="second")
    grant(contributor, 1000 * OPEN, key="tomorrow", at=NOON + timedelta(days=1, seconds=1))

    assert balance_of(Account.Kind.USER, contributor.pk) == 1600 * OPEN
    assert balance_of(Account.Kind.ISSUED) == -1600 * OPEN


def test_with_a_chain_nothing_is_granted(contributor, settings):
    settings.CHAIN_ENABLED = True

    with pytest.raises(WaitingForChain):
        grant(contributor, OPEN)
