"""The contributors' part waits in suspense for the receipt, and leaves it to the last wei."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.ids import uuid7
from accounts.models import User
from ledger.errors import IdempotencyConflict, InvalidEntry, UnknownAccount
from ledger.models import Account, Posting
from ledger.services.settlement import Credit, settle_suspense
from tests.ledger.books import NOON, balance_of, capture, hold_for

pytestmark = pytest.mark.django_db
WHOLE = 10**9


def fee(payer, amount=1000):
    hold = hold_for(payer, amount)
    capture(hold, amount)
    return hold.cause_id


def settle(completion_id, *credits):
    return settle_suspense(completion_id=completion_id, credits=list(credits), at=NOON)


def contributor_share(user, share, **about):
    return Credit("contributor", user.pk, share, **about)


def test_shares_empty_the_suspense_account(payer, contributor, builder):
    completion, treasury = fee(payer), uuid7()

    entry = settle(
        completion,
        contributor_share(contributor, 333_333_333),
        contributor_share(builder, 333_333_333),
        Credit("treasury", treasury, 333_333_334),
    )

    assert balance_of(Account.Kind.SUSPENSE, completion) == 0
    earned = [balance_of(Account.Kind.EARNINGS, user.pk) for user in (contributor, builder)]
    assert sorted([*earned, balance_of(Account.Kind.TREASURY, treasury)]) == [166, 167, 167]
    assert entry.parameter_version == 1


def test_one_person_is_credited_for_each_datanet(payer, contributor):
    completion, one, two, model = fee(payer), uuid7(), uuid7(), uuid7()

    settle(
        completion,
        contributor_share(contributor, 600_000_000, datanet_id=one, model_id=model),
        contributor_share(contributor, 400_000_000, datanet_id=two, model_id=model),
    )

    rows = Posting.objects.filter(account__kind=Account.Kind.EARNINGS)
    assert set(rows.values_list("datanet_id", "model_id", "completion_id", "amount")) == {
        (one, model, completion, 300),
        (two, model, completion, 200),
    }


def test_a_receipt_that_credits_nobody_pays_the_platform(payer):
    completion = fee(payer)

    settle(completion)

    assert balance_of(Account.Kind.SUSPENSE, completion) == 0
    assert balance_of(Account.Kind.PLATFORM) == 100 + 200 + 500


def test_a_settlement_is_written_once(payer, contributor, builder):
    completion = fee(payer)
    whole = contributor_share(contributor, WHOLE)

    assert settle(completion, whole) == settle(completion, whole)
    assert balance_of(Account.Kind.EARNINGS, contributor.pk) == 500
    with pytest.raises(IdempotencyConflict):
        settle(completion, contributor_share(builder, WHOLE))


def test_a_completion_that_left_nothing_in_suspense_has_nothing_to_settle(contributor):
    assert settle(uuid7(), contributor_share(contributor, WHOLE)) is None


def test_shares_that_make_no_whole_are_refused(payer, contributor):
    completion = fee(payer)

    with pytest.raises(InvalidEntry, match="add up to"):
        settle(completion, contributor_share(contributor, WHOLE - 1))
    assert balance_of(Account.Kind.SUSPENSE, completion) == 500


@pytest.mark.parametrize("share", [-1, 0.5, True])
def test_a_share_that_is_no_whole_number_is_refused(payer, contributor, share):
    with pytest.raises(InvalidEntry, match="whole number"):
        settle(fee(payer), contributor_share(contributor, share))


def test_a_share_that_stands_twice_is_refused(payer, contributor):
    half = contributor_share(contributor, WHOLE // 2)

    with pytest.raises(InvalidEntry, match="twice"):
        settle(fee(payer), half, half)


def test_a_contributor_who_is_not_here_is_refused(payer):
    completion = fee(payer)

    with pytest.raises(UnknownAccount):
        settle(completion, Credit("contributor", uuid7(), WHOLE))
    assert balance_of(Account.Kind.SUSPENSE, completion) == 500


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    amount=st.integers(2, 10**18),
    weights=st.lists(st.integers(0, 1000), min_size=3, max_size=3).filter(any),
    order=st.permutations(range(3)),
)
def test_any_fee_and_shares_are_paid_to_the_wei_in_any_order(
    payer, contributor, builder, amount, weights, order
):
    people = [payer, contributor, builder]
    before = sum(balance_of(Account.Kind.EARNINGS, user.pk) for user in people)
    completion = fee(payer, amount)
    suspense = balance_of(Account.Kind.SUSPENSE, completion)
    shares = [weight * WHOLE // sum(weights) for weight in weights]
    shares[0] += WHOLE - sum(shares)

    settle(completion, *[contributor_share(people[n], shares[n]) for n in order])

    after = sum(balance_of(Account.Kind.EARNINGS, user.pk) for user in User.objects.all())
    assert after - before == suspense
    assert balance_of(Account.Kind.SUSPENSE, completion) == 0
