"""Recorded, submitted, final: the same three words for everything, with its confirmations."""

import pytest

from ledger import truth
from ledger.models import Account, Intent, Withdrawal, WithdrawalBatch
from ledger.services.deposits import credit_deposit
from ledger.services.opening import account_for
from ledger.services.posting import reverse_entry
from ledger.services.withdrawals import request_withdrawal
from tests.ledger import mirror
from tests.ledger.books import (
    FIRST,
    NOON,
    activate,
    capture,
    earn,
    hold_for,
    link,
    paid,
    publish,
)

pytestmark = pytest.mark.django_db
TX = mirror.word(0x7C)


def words_of(entry):
    told = truth.of_entry(entry)
    return told.state, told.confirmations


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("NEW", "RECORDED"),
        ("SIGNED", "RECORDED"),
        ("SEEN", "SUBMITTED"),
        ("MINED", "SUBMITTED"),
        ("SAFE", "SUBMITTED"),
        ("FINAL", "FINAL"),
        ("FAILED", "FAILED"),
    ],
)
def test_each_state_of_an_intent_is_one_of_the_three_or_failed(state, told):
    number = 12 if state in ("MINED", "SAFE", "FINAL") else None
    row = mirror.intent(state=state, nonce=1, block_number=number)

    assert truth.of_intent(row).state == told


def test_an_entry_of_the_ledger_alone_is_recorded_and_settled(payer):
    told = truth.of_entry(capture(hold_for(payer, 1000), 900))

    assert (told.state, told.settled, told.confirmations) == ("RECORDED", True, None)
    assert [step.done for step in told.steps] == [False, False, False]


def test_a_deposit_is_as_true_as_its_block(payer):
    account = account_for("USER", payer.pk)
    mirror.log(mirror.block(10), TX, accountId=mirror.account_word(account), amount="5")
    deposit = credit_deposit(
        account_id=account.pk, amount=5, chain_id=31337, tx_hash=TX, log_index=0, at=NOON
    )

    for number, final, told in [(10, 0, "SUBMITTED"), (13, 9, "SUBMITTED"), (13, 10, "FINAL")]:
        mirror.head(number, final=final)
        assert words_of(deposit) == (told, number - 9)
    mirror.head(9)
    assert words_of(deposit) == ("SUBMITTED", None)


def test_a_deposit_whose_block_is_gone_is_recorded_and_says_so(payer):
    deposit = account_for("USER", payer.pk).postings.get().entry

    told = truth.of_entry(deposit)

    assert told.state == "RECORDED"
    assert "not in our mirror" in told.words


def test_a_distribution_is_as_true_as_its_root(contributor, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    distribution = publish()
    assert words_of(distribution.entry) == ("RECORDED", None)
    mirror.head(20, final=11)
    activate(distribution)
    root = Intent.objects.filter(pk=distribution.root_intent_id)

    root.update(state="MINED", nonce=3, block_number=12, tx_hash=TX)
    assert words_of(distribution.entry) == ("SUBMITTED", 9)
    root.update(state="FINAL")
    assert words_of(distribution.entry) == ("FINAL", 9)


def test_a_root_that_waits_for_its_delay_is_not_final(contributor, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    distribution = publish()
    mirror.head(20, final=20)
    row = mirror.intent(state="FINAL", nonce=3, block_number=12)
    distribution.state, distribution.root_intent_id = "ROOT_SUBMITTED", row.pk

    assert truth.of_distribution(distribution).state == "SUBMITTED"


def test_a_claim_that_was_paid_shows_the_confirmations_of_its_block(contributor, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    activate(publish())
    claim = paid(tx_hash=TX)
    assert truth.of_claim(claim).state == "FINAL"
    mirror.log(mirror.block(15), TX, contract="RewardDistributor", event="Claimed")
    mirror.head(16, final=14)

    told = truth.of_claim(claim)

    assert (told.state, told.confirmations, told.tx_hash) == ("SUBMITTED", 2, TX)


def test_many_entries_are_told_in_a_few_statements(payer, django_assert_max_num_queries):
    entries = [capture(hold_for(payer, 1000), 900 - number) for number in range(5)]
    entries.append(reverse_entry(entry=entries[0], at=NOON, acting_user=None))

    with django_assert_max_num_queries(4):
        assert len(truth.of_entries(entries)) == 6


def test_a_withdrawal_is_as_true_as_its_batch(payer, deployed):
    link(payer, FIRST)
    row = request_withdrawal(
        user=payer,
        source=Account.Kind.USER,
        address=FIRST,
        amount=5,
        key="one",
        acting_user=payer,
        at=NOON,
    )
    assert words_of(row.entry) == ("RECORDED", None)
    batch = WithdrawalBatch.objects.create(
        intent_id=mirror.intent(state="MINED", nonce=1, block_number=12).pk, size=1, amount=5
    )
    Withdrawal.objects.update(batch=batch, place=0, state="BATCHED")
    mirror.head(14)

    assert words_of(row.entry) == ("SUBMITTED", 3)
