"""Withdrawals on a real chain: the wallet rises by exactly what the ledger gave, once."""

from __future__ import annotations

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import User, Wallet
from config.reconciliation import check_chain
from ledger.chain.addresses import to_checksum
from ledger.models import Account, Intent, Withdrawal
from ledger.reconciliation import check_ledger
from ledger.services import chain as intents
from ledger.services.payouts import advance_withdrawals
from ledger.services.withdrawals import request_withdrawal
from tests.chain_fixtures import GUARDIAN, OPEN, Worker
from tests.ledger.books import balance_of, person

FRESH = to_checksum("0x" + "7" * 40)
# Runtime code that reverts whatever it is sent: PUSH0 PUSH0 REVERT.
REFUSES = "0x5f5ffd"
State = Withdrawal.State


@pytest.fixture
def holder(worker: Worker) -> User:
    user = person("holder")
    intents.request_faucet(
        user=user, amount=10 * OPEN, acting_user=user, key="first", at=timezone.now()
    )
    worker.run()
    Wallet.objects.create(user=user, address=FRESH, is_primary=True)
    return user


def withdraw(user: User, amount: int, address: str = FRESH) -> Withdrawal:
    return request_withdrawal(
        user=user, source=Account.Kind.USER, address=address, amount=amount, key=str(uuid7()),
        acting_user=user, at=timezone.now(),
    )  # fmt: skip


def differences() -> dict[str, int]:
    findings = [*check_ledger(), *check_chain()]
    return {one.name: one.difference for one in findings if not one.holds}


def go(worker: Worker, rounds: int = 6) -> None:
    advance_withdrawals(at=timezone.now())
    worker.run(rounds)
    advance_withdrawals(at=timezone.now())


def test_a_wallet_without_gas_is_paid_to_the_wei(worker: Worker, holder: User) -> None:
    before = worker.chain.balance(FRESH)
    many = [withdraw(holder, OPEN + number) for number in range(3)]

    go(worker)

    for one in many:
        one.refresh_from_db()
        assert one.state == State.PAID
    assert worker.chain.balance(FRESH) - before == 3 * OPEN + 3
    assert balance_of(Account.Kind.USER, holder.pk) == 7 * OPEN - 3
    assert balance_of(Account.Kind.WITHDRAWING, holder.pk) == 0
    assert Intent.objects.get(kind=Intent.Kind.WITHDRAW).state == Intent.State.FINAL
    assert differences() == {}


def test_it_is_paid_in_the_books_when_it_is_final_and_not_before(
    worker: Worker, holder: User
) -> None:
    one = withdraw(holder, OPEN)
    advance_withdrawals(at=timezone.now())
    worker.send()
    one.refresh_from_db()
    assert one.state == State.SUBMITTED
    worker.chain.mine(2)
    worker.index()
    one.refresh_from_db()
    assert worker.chain.balance(FRESH) == OPEN
    assert one.state == State.SUBMITTED
    assert differences() == {}

    worker.run()
    one.refresh_from_db()
    assert one.state == State.PAID
    assert differences() == {}


def test_a_wallet_that_refuses_gets_nothing_and_its_neighbour_everything(
    worker: Worker, holder: User
) -> None:
    stubborn = to_checksum("0x" + "8" * 40)
    worker.chain.install_code(stubborn, REFUSES)
    Wallet.objects.create(user=holder, address=stubborn)
    refused, paid = withdraw(holder, 2 * OPEN, stubborn), withdraw(holder, OPEN)

    go(worker)

    refused.refresh_from_db()
    paid.refresh_from_db()
    assert (refused.state, paid.state) == (State.REFUSED, State.PAID)
    assert balance_of(Account.Kind.USER, holder.pk) == 9 * OPEN
    assert worker.chain.balance(FRESH) == OPEN
    assert worker.chain.balance(stubborn) == 0
    assert differences() == {}


def test_while_payments_are_stopped_the_money_comes_back(worker: Worker, holder: User) -> None:
    worker.chain.send(GUARDIAN, "Gateway", "setPaused", True)
    one = withdraw(holder, OPEN)

    go(worker)

    one.refresh_from_db()
    assert one.state == State.FAILED
    assert "PaymentsPaused" in one.failure_reason
    assert balance_of(Account.Kind.USER, holder.pk) == 10 * OPEN
    assert differences() == {}
