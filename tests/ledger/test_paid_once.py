"""Push, withdrawal, publication and claims of the same person at once: each wei is paid once."""

import random

import pytest
from django.db.models import Sum

from ledger.errors import LedgerError
from ledger.models import Account, Claim, PayoutAddress, PayoutChoice, Withdrawal
from ledger.services import autoclaims, claims, pushes, relays
from ledger.services.distributions import publish_distribution
from ledger.services.withdrawals import request_withdrawal
from tests.ledger.books import (
    FIRST,
    NOON,
    SECOND,
    activate,
    balance_of,
    earn,
    link,
    paid,
    person,
    publish,
)
from tests.ledger.test_concurrency import together, wrong

pytestmark = pytest.mark.django_db(transaction=True)
FEE = relays.RELAY_GAS * 10**6
SMALL = 10**15
AMOUNTS = (1, SMALL // 2, SMALL)


def refusable(action):
    def act():
        try:
            return action()
        except LedgerError as refusal:
            return refusal

    return act


def withdraw(user, amount, address, key):
    return request_withdrawal(
        user=user, address=address, amount=amount, source=Account.Kind.EARNINGS,
        key=key, acting_user=user, at=NOON,
    )  # fmt: skip


@pytest.fixture
def people(deployed, settings):
    """Two who had a claim's fee set aside before the epoch in force, want pushes, and have more."""
    settings.RELAY_GAS_PRICE_WEI = 10**6
    people = [person("one"), person("two")]
    for user, address in zip(people, (FIRST, SECOND), strict=True):
        link(user, address)
        relays.choose_payouts(
            user=user, claims=PayoutChoice.Claims.AUTO, push=True, shown_fee=FEE,
            acting_user=user, at=NOON,
        )  # fmt: skip
        earn(user, SMALL)
    activate(publish())
    for user in people:
        earn(user, SMALL, 1)
    return people


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_earnings_are_pushed_withdrawn_or_published_and_claimed_once(people, seed):
    earned = 2 * 2 * SMALL
    first = SMALL - FEE
    addresses = (FIRST, SECOND)
    actions = [
        *[lambda: pushes.push_small_earnings(at=NOON)] * 3,
        *[lambda: publish_distribution(at=NOON, acting_user=None)] * 3,
        *[
            lambda n=n: withdraw(people[n % 2], AMOUNTS[n % 3], addresses[n % 2], str(n))
            for n in range(8)
        ],
        *[lambda: autoclaims.claim_for_all(at=NOON)] * 3,
        *[
            lambda n=n: claims.request_relayed_claim(
                address=addresses[n % 2], acting_user=people[n % 2], at=NOON, shown_fee=FEE
            )
            for n in range(4)
        ],
        # The wallet's own claim is final, and is told of again and again.
        *[lambda: paid(first, first, address=FIRST, tx_hash="0xc1")] * 4,
        *[lambda: paid(first, first, address=SECOND, tx_hash="0xc2")] * 2,
        *[
            lambda: relays.choose_payouts(
                user=people[0], claims=PayoutChoice.Claims.OWN, push=True, shown_fee=0,
                acting_user=people[0], at=NOON,
            )
        ],
    ]  # fmt: skip
    random.Random(seed).shuffle(actions)

    together([refusable(action) for action in actions])

    # What was ever earned lies in one place each, to the wei.
    left = sum(balance_of(Account.Kind.EARNINGS, user.pk) for user in people)
    leaving = int(Withdrawal.objects.aggregate(total=Sum("amount"))["total"] or 0)
    published = int(PayoutAddress.objects.aggregate(total=Sum("published"))["total"])
    fees = balance_of(Account.Kind.RELAY) + balance_of(Account.Kind.PLATFORM)
    assert left + leaving + published + fees == earned
    assert Claim.objects.filter(state=Claim.State.PAID).count() == 2
    assert [payee.claimed for payee in PayoutAddress.objects.all()] == [first, first]
    assert balance_of(Account.Kind.ESCROW) == published - 2 * first
    assert wrong() == {}
