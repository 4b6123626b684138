"""What the chain takes back past finality is undone, and booked once when it comes again."""

import pytest

from accounts.models import AuditEvent, Notification
from ledger import truth
from ledger.errors import ClaimOnItsWay, NothingToClaim
from ledger.models import Account, Claim, Distribution, Entry, Intent, PayoutAddress
from ledger.models.pools import PoolFunding
from ledger.reconciliation import check_ledger
from ledger.services import claims, poolfunding, roots, vanished
from ledger.services.opening import account_for
from ledger.services.posting import Leg, post_entry
from tests.ledger.books import (
    FIRST,
    NOON,
    activate,
    balance_of,
    earn,
    funded,
    link,
    paid,
    person,
    publish,
    rooted,
)
from tests.ledger.mirror import attempt, intent

pytestmark = pytest.mark.django_db
State = Distribution.State


@pytest.fixture
def earner(contributor, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    return contributor


@pytest.fixture
def active(earner):
    return activate(publish())


@pytest.fixture(autouse=True)
def in_balance(db):
    yield
    assert [one for one in check_ledger() if not one.holds] == []


def contracts():
    """What the books say that Gateway and distributor hold above what was deposited: 0 together."""
    return balance_of(Account.Kind.GATEWAY), balance_of(Account.Kind.DISTRIBUTOR)


def vanish(tx_hash="0xc1"):
    return vanished.undo_claim(tx_hash=tx_hash, log_index=0, at=NOON)


def test_a_funding_that_another_attempt_brings_again_is_booked_once(earner):
    distribution = publish()
    roots.advance_distributions(at=NOON)
    funded(distribution)
    before = contracts()

    funded(distribution, tx_hash="0xb0b")

    assert contracts() == before
    assert Entry.objects.filter(kind=Entry.Kind.FUNDING).count() == 1
    assert Intent.objects.filter(kind=Intent.Kind.PUBLISH).count() == 1


def test_a_funding_that_is_gone_is_undone_and_comes_again_with_its_root_on_its_way(earner):
    distribution = publish()
    roots.advance_distributions(at=NOON)
    before = contracts()
    for tx_hash in ("0xf1", "0xf2", "0xf2"):
        funded(distribution, tx_hash=tx_hash)
        assert contracts() != before
        assert vanished.undo_funding(batch_id=distribution.pk, at=NOON) is not None
        assert vanished.undo_funding(batch_id=distribution.pk, at=NOON) is None
        assert contracts() == before
        distribution.refresh_from_db()
        assert (distribution.state, distribution.funded_at) == (State.ROOT_SUBMITTED, None)

    funded(distribution)

    assert distribution.funded_at == NOON
    assert balance_of(Account.Kind.DISTRIBUTOR) == -100
    assert Intent.objects.filter(kind=Intent.Kind.PUBLISH).count() == 1


def test_where_funding_is_gone_for_good_it_is_what_staff_start_again(earner):
    distribution = publish()
    roots.advance_distributions(at=NOON)
    funded(distribution)
    vanished.undo_funding(batch_id=distribution.pk, at=NOON)
    distribution.refresh_from_db()
    intent = distribution.funding_intent_id
    roots.on_intent_failed(intent_id=intent, reason="The Gateway holds less.", at=NOON)

    roots.retry_distribution(distribution=distribution, acting_user=person("staff"), at=NOON)

    distribution.refresh_from_db()
    assert distribution.state == State.FUNDING
    assert distribution.funding_intent_id != intent


def test_funding_for_no_distribution_of_ours_has_nothing_to_undo(earner, active):
    assert vanished.undo_funding(batch_id=None, at=NOON) is None
    assert vanished.undo_funding(batch_id=person("nobody").pk, at=NOON) is None


def test_a_root_that_is_gone_is_not_in_force_until_it_comes_again(earner, active):
    staff = person("staff")
    staff.is_staff = True
    staff.save()

    vanished.undo_root(epoch=1, root=active.root, at=NOON)
    vanished.undo_root(epoch=1, root=active.root, at=NOON)

    active.refresh_from_db()
    assert (active.state, active.active_at) == (State.ROOT_SUBMITTED, None)
    assert Notification.objects.filter(user=staff, kind="ledger.alarm").count() == 1
    rooted(active)
    assert active.state == State.ACTIVE


def test_a_root_that_is_gone_behind_a_later_epoch_stays_as_it_is(earner, active):
    earn(earner, 5, 1)
    second = publish()
    roots.advance_distributions(at=NOON)

    vanished.undo_root(epoch=1, root=active.root, at=NOON)

    active.refresh_from_db()
    second.refresh_from_db()
    assert (active.state, second.state) == (State.ACTIVE, State.FUNDING)


def test_a_claim_under_another_hash_adds_nothing(earner, active):
    claim = paid()

    assert paid(tx_hash="0xc2") == claim

    assert PayoutAddress.objects.get().claimed == 100
    assert Claim.objects.count() == 1
    assert balance_of(Account.Kind.DISTRIBUTOR) == 0


def test_what_is_booked_is_what_the_cumulative_amount_is_above_ours(earner, active):
    paid()
    earn(earner, 5, 1)
    activate(publish())

    # Both amounts in one claim: the contract had lost the first.
    second = paid(105, 105, tx_hash="0xc2")

    assert (second.amount, second.cumulative) == (5, 105)
    assert PayoutAddress.objects.get().claimed == 105
    assert paid(5, 105, tx_hash="0xc3") == second


def test_a_wallets_own_claim_that_is_gone_can_be_made_again(earner, active):
    claim = paid()

    assert vanish() == claim
    assert vanish() is None

    claim.refresh_from_db()
    assert (claim.state, claim.paid_at) == (Claim.State.VANISHED, None)
    assert "claim it again" in truth.of_claim(claim).words
    assert claims.claim_proof(FIRST).claimable == 100
    assert balance_of(Account.Kind.ESCROW) == 100
    assert balance_of(Account.Kind.DISTRIBUTOR) == -100
    assert AuditEvent.objects.filter(verb="ledger.claim_undone").count() == 1
    assert Notification.objects.filter(user=earner, kind="ledger.claim_undone").count() == 1


@pytest.mark.parametrize("tx_hash", ["0xc1", "0xc2"])
def test_a_claim_that_comes_again_is_the_same_claim_in_any_transaction(earner, active, tx_hash):
    claim = paid()
    for _ in range(2):
        vanish(claim.tx_hash)
        assert paid(tx_hash=tx_hash) == claim
        claim.refresh_from_db()
        assert (claim.state, claim.tx_hash, claim.amount) == (Claim.State.PAID, tx_hash, 100)

    assert PayoutAddress.objects.get().claimed == 100
    assert balance_of(Account.Kind.ESCROW) == 0
    with pytest.raises(NothingToClaim):
        claims.claim_proof(FIRST)


def test_our_own_claim_that_is_gone_is_on_its_way_again(earner, active):
    claim = claims.request_relayed_claim(address=FIRST, acting_user=earner, at=NOON)
    attempt(Intent.objects.get(pk=claim.intent_id), "0xc1")
    paid()

    vanish()

    claim.refresh_from_db()
    assert claim.state == Claim.State.REQUESTED
    with pytest.raises(ClaimOnItsWay):
        claims.request_relayed_claim(address=FIRST, acting_user=earner, at=NOON)
    assert paid(tx_hash="0xc9") == claim


def test_a_claim_under_the_old_root_leaves_the_request_under_the_new_one_alone(earner, active):
    earn(earner, 5, 1)
    activate(publish())
    asked = claims.request_relayed_claim(address=FIRST, acting_user=earner, at=NOON)

    own = paid()

    asked.refresh_from_db()
    assert own != asked
    assert asked.state == Claim.State.REQUESTED
    assert paid(5, 105, tx_hash="0xc2") == asked


def test_a_gift_that_is_gone_is_undone_and_booked_again(db):
    gift = {"chain_id": 31337, "tx_hash": "0x91", "log_index": 0, "at": NOON}
    for _ in range(3):
        roots.on_gift(sender=FIRST, amount=7, **gift)
        roots.on_gift(sender=FIRST, amount=7, **gift)
        assert balance_of(Account.Kind.DISTRIBUTOR) == -7
        assert vanished.undo_gift(**gift) is not None
        assert vanished.undo_gift(**gift) is None
        assert balance_of(Account.Kind.DISTRIBUTOR) == 0
    roots.on_gift(sender=FIRST, amount=7, **gift)
    assert balance_of(Account.Kind.UNASSIGNED) == 7


def test_a_pool_that_was_funded_is_on_its_way_again_and_funded_once(payer):
    pool, user = "0x" + "0f" * 32, account_for(Account.Kind.USER, payer.pk)
    entry = post_entry(
        kind=Entry.Kind.POOLING, key="pooling:one", at=NOON,
        legs=[Leg(user, -5), Leg(account_for(Account.Kind.POOLING), 5)],
    )  # fmt: skip
    sent = intent(kind=Intent.Kind.STAKERS)
    funding = PoolFunding.objects.create(
        source_kind=Account.Kind.STAKERS, pool_id=pool, amount=5, entry=entry, intent_id=sent.pk
    )
    before = balance_of(Account.Kind.GATEWAY)

    def paid_by(tx_hash):
        return poolfunding.on_stakers_funded(
            batch_id=funding.pk, pool_id=pool, amount=5, chain_id=31337, tx_hash=tx_hash,
            log_index=0, at=NOON,
        )  # fmt: skip

    for tx_hash in ("0xa1", "0xa2"):
        assert paid_by(tx_hash) == paid_by("0xa3")
        assert balance_of(Account.Kind.GATEWAY) == before + 5
        assert poolfunding.on_stakers_gone(batch_id=funding.pk, at=NOON) is not None
        assert poolfunding.on_stakers_gone(batch_id=funding.pk, at=NOON) is None
        funding.refresh_from_db()
        assert (funding.state, funding.closed_by) == (PoolFunding.State.UNDER_WAY, None)
        assert balance_of(Account.Kind.GATEWAY) == before
        assert balance_of(Account.Kind.POOLING) == 5
    paid_by("0xa1")
    funding.refresh_from_db()
    assert funding.state == PoolFunding.State.PAID
    assert balance_of(Account.Kind.POOLING) == 0
