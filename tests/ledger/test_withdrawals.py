"""A person's OPEN leaves for a wallet of theirs: once, within limits, or not at all."""

from datetime import timedelta

import pytest

from accounts.ids import uuid7
from accounts.models import AuditEvent, Notification
from ledger.calldata import id_word
from ledger.errors import (
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
    InvalidEntry,
    LimitReached,
    UnknownAccount,
    WaitingForChain,
)
from ledger.models import Account, Entry, Intent, Withdrawal, WithdrawalBatch
from ledger.models.chain import ChainHead, ChainWallet
from ledger.reconciliation import check_ledger
from ledger.services import chain, payouts
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, post_entry
from ledger.services.withdrawals import request_payout, request_withdrawal
from tests.ledger.books import FIRST, NOON, OPEN, SECOND, balance_of, earn, fund, link, person

pytestmark = pytest.mark.django_db
State = Withdrawal.State


@pytest.fixture
def holder(payer, deployed):
    """10 OPEN to spend and a wallet of their own, on an instance with a chain."""
    link(payer, FIRST)
    return payer


def withdraw(user, amount=OPEN, **changes):
    values = {
        "user": user,
        "source": Account.Kind.USER,
        "address": FIRST,
        "amount": amount,
        "key": str(uuid7()),
        "acting_user": user,
        "at": NOON,
    }
    return request_withdrawal(**values | changes)


def paid(withdrawal, **changes):
    """The Gateway's event is final."""
    withdrawal.refresh_from_db()
    values = {
        "batch_id": withdrawal.batch_id,
        "place": withdrawal.place,
        "address": withdrawal.address,
        "amount": withdrawal.amount,
        "tx_hash": "0xAB",
        "at": NOON,
    }
    return payouts.on_withdrawn(**values | changes)


def fail(intent, **fields):
    """The sender gave the intent up."""
    for name, value in fields.items():
        setattr(intent, name, value)
    intent.state, intent.failure_reason = Intent.State.FAILED, "PaymentsPaused()"
    intent.save()
    chain.announce(intent, at=NOON)


def broken():
    return {finding.name: finding.difference for finding in check_ledger() if not finding.holds}


def under_way(user):
    return balance_of(Account.Kind.WITHDRAWING, user.pk)


def test_the_money_leaves_the_balance_when_it_is_asked_for(holder):
    withdrawal = withdraw(holder, 3 * OPEN)

    assert (withdrawal.state, withdrawal.address) == (State.REQUESTED, FIRST)
    assert balance_of(Account.Kind.USER, holder.pk) == 7 * OPEN
    assert under_way(holder) == 3 * OPEN
    assert AuditEvent.objects.filter(verb="ledger.withdrawal_requested").count() == 1
    assert broken() == {}


def test_earnings_are_withdrawn_as_well(deployed, contributor):
    earn(contributor, 2 * OPEN)
    link(contributor, FIRST)

    withdraw(contributor, OPEN, source=Account.Kind.EARNINGS)

    assert balance_of(Account.Kind.EARNINGS, contributor.pk) == OPEN
    assert under_way(contributor) == OPEN


def test_asked_twice_under_one_key_it_is_paid_once(holder):
    first = withdraw(holder, OPEN, key="k")

    assert withdraw(holder, OPEN, key="k").pk == first.pk
    with pytest.raises(IdempotencyConflict):
        withdraw(holder, 2 * OPEN, key="k")
    assert under_way(holder) == OPEN


def test_only_ones_own_wallet_is_paid(holder, stranger):
    link(stranger, SECOND)
    with pytest.raises(UnknownAccount):
        withdraw(holder, address=SECOND)
    assert not Withdrawal.objects.exists()


@pytest.mark.parametrize("amount", [0, -1, True, 1.5, 2**256])
def test_what_is_no_amount_is_refused(holder, amount):
    with pytest.raises(InvalidAmount):
        withdraw(holder, amount)


def test_no_more_leaves_than_is_there(holder):
    with pytest.raises(InsufficientFunds):
        withdraw(holder, 11 * OPEN)
    assert under_way(holder) == 0


def test_less_than_the_minimum_stays(holder, settings):
    settings.WITHDRAWAL_MINIMUM_WEI = OPEN
    with pytest.raises(LimitReached, match="1 OPEN or more"):
        withdraw(holder, OPEN - 1)


def test_a_day_has_a_limit(holder, settings):
    settings.WITHDRAWAL_DAY_LIMIT_WEI = 5 * OPEN
    withdraw(holder, 3 * OPEN)
    with pytest.raises(LimitReached, match="2 OPEN are left"):
        withdraw(holder, 3 * OPEN)
    withdraw(holder, 3 * OPEN, at=NOON + timedelta(days=1, seconds=1))


def test_without_a_chain_nothing_is_withdrawn(payer):
    link(payer, FIRST)
    with pytest.raises(WaitingForChain):
        withdraw(payer)
    assert under_way(payer) == 0


def test_a_batch_is_one_intent_that_names_each_payment(holder):
    withdrawals = [withdraw(holder, amount) for amount in (1, 2, 3)]

    assert payouts.advance_withdrawals(at=NOON) == 3

    batch, intent = WithdrawalBatch.objects.get(), Intent.objects.get()
    assert (batch.size, batch.amount, batch.intent_id) == (3, 6, intent.pk)
    assert intent.kind == Intent.Kind.WITHDRAW
    assert id_word(batch.pk) in bytes(intent.data)
    for place, withdrawal in enumerate(withdrawals):
        withdrawal.refresh_from_db()
        assert (withdrawal.state, withdrawal.place) == (State.BATCHED, place)
    assert payouts.advance_withdrawals(at=NOON) == 0
    assert broken() == {}


def test_a_batch_holds_three_hundred_at_most(holder, monkeypatch):
    monkeypatch.setattr(payouts, "BATCH_LIMIT", 2)
    for amount in (1, 2, 3):
        withdraw(holder, amount)

    payouts.advance_withdrawals(at=NOON)

    assert sorted(WithdrawalBatch.objects.values_list("size", flat=True)) == [1, 2]
    assert Intent.objects.count() == 2


def test_what_the_gateway_paid_has_left(holder):
    withdrawal = withdraw(holder)
    payouts.advance_withdrawals(at=NOON)
    gateway = balance_of(Account.Kind.GATEWAY)

    paid(withdrawal)
    paid(withdrawal)

    withdrawal.refresh_from_db()
    assert (withdrawal.state, withdrawal.tx_hash) == (State.PAID, "0xab")
    assert (under_way(holder), balance_of(Account.Kind.GATEWAY)) == (0, gateway + OPEN)
    assert Notification.objects.filter(user=holder, kind="ledger.withdrawn").count() == 1
    assert broken() == {}


def test_what_its_wallet_refused_is_credited_back(holder):
    withdrawal = withdraw(holder)
    payouts.advance_withdrawals(at=NOON)
    withdrawal.refresh_from_db()

    for _ in range(2):
        payouts.on_refused(
            batch_id=withdrawal.batch_id, place=0, address=FIRST, amount=OPEN, tx_hash="0x1",
            at=NOON,
        )  # fmt: skip

    withdrawal.refresh_from_db()
    assert withdrawal.state == State.REFUSED
    assert balance_of(Account.Kind.USER, holder.pk) == 10 * OPEN
    assert under_way(holder) == 0
    notice = Notification.objects.get(user=holder, kind="ledger.withdrawal_returned")
    assert "another wallet" in notice.body
    with pytest.raises(InvalidEntry):
        paid(withdrawal)
    assert broken() == {}


def test_a_batch_that_was_never_signed_comes_back_at_once(holder):
    withdrawal = withdraw(holder)
    payouts.advance_withdrawals(at=NOON)

    fail(Intent.objects.get())

    withdrawal.refresh_from_db()
    assert (withdrawal.state, withdrawal.failure_reason) == (State.FAILED, "PaymentsPaused()")
    assert balance_of(Account.Kind.USER, holder.pk) == 10 * OPEN
    assert broken() == {}


def test_a_batch_that_failed_in_a_block_comes_back_once_that_is_final(holder):
    withdrawal = withdraw(holder)
    payouts.advance_withdrawals(at=NOON)
    wallet = ChainWallet.objects.create(chain_id=31337, address=SECOND)
    head = ChainHead.objects.create(
        chain_id=31337, genesis_hash="0x00", number=9, hash="0x09", safe_number=8, final_number=6
    )
    fail(Intent.objects.get(), wallet=wallet, nonce=4, block_number=7)

    assert payouts.advance_withdrawals(at=NOON) == 0
    assert under_way(holder) == OPEN

    head.final_number = 7
    head.save()
    assert payouts.advance_withdrawals(at=NOON) == 1
    withdrawal.refresh_from_db()
    assert withdrawal.state == State.FAILED
    assert under_way(holder) == 0


def test_a_payment_that_nobody_asked_for_is_not_booked(holder):
    withdrawal = withdraw(holder)
    payouts.advance_withdrawals(at=NOON)
    with pytest.raises(UnknownAccount):
        paid(withdrawal, batch_id=uuid7())
    with pytest.raises(InvalidEntry):
        paid(withdrawal, amount=OPEN + 1)
    with pytest.raises(InvalidEntry):
        paid(withdrawal, address=SECOND)
    assert under_way(holder) == OPEN


def test_a_push_has_a_cause_and_no_limits(holder, settings):
    settings.WITHDRAWAL_MINIMUM_WEI = OPEN
    pushed = person("pushed")
    earn(pushed, 5)
    cause = Cause("distribution", uuid7())

    def push(amount=5):
        return request_payout(
            source=account_for(Account.Kind.EARNINGS, pushed.pk),
            address=SECOND,
            amount=amount,
            key="push:1",
            cause=cause,
            acting_user=None,
            at=NOON,
        )

    first = push()
    assert push().pk == first.pk
    assert (first.cause_kind, first.cause_id) == ("distribution", cause.id)
    assert under_way(pushed) == 5
    with pytest.raises(IdempotencyConflict):
        push(4)


def test_only_a_persons_own_money_is_paid_out(deployed, payer):
    fund(payer, OPEN, 1)
    for kind in (Account.Kind.PLATFORM, Account.Kind.GATEWAY):
        with pytest.raises(InvalidEntry):
            request_payout(
                source=account_for(kind), address=FIRST, amount=1, key=f"x:{kind}", cause=None,
                acting_user=None, at=NOON,
            )  # fmt: skip


def test_money_under_way_that_no_withdrawal_explains_is_seen(holder):
    withdraw(holder)
    post_entry(
        kind=Entry.Kind.WITHDRAWAL,
        key="unexplained",
        at=NOON,
        legs=[
            Leg(account_for(Account.Kind.USER, holder.pk), -7),
            Leg(account_for(Account.Kind.WITHDRAWING, holder.pk), 7),
        ],
    )
    assert broken() == {"withdrawals under way": 7}
