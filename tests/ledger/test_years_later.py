"""Nothing expires: what was published is claimed years and many epochs later, as if on the day."""

from datetime import timedelta

import pytest

from ledger.chain import distribution as trees
from ledger.models import Account, Claim, Distribution
from ledger.reconciliation import check_ledger
from ledger.services import autoclaims, claims, pushes, roots
from ledger.services.holds import release_expired_holds
from ledger.services.payouts import advance_withdrawals
from tests.ledger.books import (
    FIRST,
    NOON,
    SECOND,
    activate,
    balance_of,
    earn,
    link,
    paid,
    publish,
)

pytestmark = pytest.mark.django_db
EPOCHS = 8
YEARS = NOON + timedelta(days=365 * 10)


@pytest.fixture
def years(contributor, builder, stranger, deployed):
    """An epoch that pays the contributor, then ten years of epochs that pay somebody else; all that
    time the stranger has earnings and no wallet."""
    earn(contributor, 100)
    link(contributor, FIRST)
    earn(stranger, 7)
    activate(publish())
    link(builder, SECOND)
    for number in range(EPOCHS):
        at = NOON + (YEARS - NOON) * (number + 1) / EPOCHS
        earn(builder, 5, number)
        activate(publish(at=at))
        # What beat does all the time.
        release_expired_holds(at=at)
        pushes.push_small_earnings(at=at)
        advance_withdrawals(at=at)
        roots.advance_distributions(at=at)
        autoclaims.claim_for_all(at=at)


def test_the_proof_of_the_newest_root_still_pays_all_of_it(years):
    ready = claims.claim_proof(FIRST)

    assert (ready.claimable, ready.distribution.epoch) == (100, EPOCHS + 1)
    leaf = trees.leaf(
        chain_id=31337, distributor=ready.distribution.distributor, account=FIRST, cumulative=100
    )
    root = bytes.fromhex(ready.distribution.root[2:])
    assert trees.verify(root=root, leaf=leaf, proof=ready.proof)
    claims.check_proof(address=FIRST, cumulative=100, proof=ready.proof)


def test_it_is_relayed_and_booked_at_that_time(years, contributor):
    claims.request_relayed_claim(address=FIRST, acting_user=contributor, at=YEARS)

    claim = paid(at=YEARS)

    assert (claim.state, claim.amount, claim.paid_at) == (Claim.State.PAID, 100, YEARS)
    assert balance_of(Account.Kind.ESCROW) == 5 * EPOCHS
    assert [finding for finding in check_ledger() if not finding.holds] == []


def test_what_was_claimed_with_an_old_wallet_and_what_came_later_add_up(years, contributor):
    paid(at=NOON + timedelta(days=1))
    earn(contributor, 3, 9)
    activate(publish(at=YEARS))

    assert claims.claim_proof(FIRST).claimable == 3


def test_earnings_without_a_wallet_wait_as_long_and_are_published_then(years, stranger):
    assert balance_of(Account.Kind.EARNINGS, stranger.pk) == 7
    link(stranger, "0x" + "33" * 20)

    distribution = activate(publish(at=YEARS))

    assert (distribution.amount, distribution.leaf_count) == (7, 3)
    assert claims.claim_proof("0x" + "33" * 20).claimable == 7
    assert Distribution.objects.count() == EPOCHS + 2
