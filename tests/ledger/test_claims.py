"""Claiming: a proof for the wallet, a relay for who has no gas, one payment for each log."""

import pytest

from accounts.models import Notification
from ledger import calldata, selectors
from ledger.chain import distribution as trees
from ledger.errors import (
    ClaimOnItsWay,
    InsufficientFunds,
    NothingToClaim,
    UnknownAccount,
    WaitingForChain,
)
from ledger.models import Account, Claim, Intent, PayoutAddress
from ledger.services import claims
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


def relay(user, address=FIRST):
    return claims.request_relayed_claim(address=address, acting_user=user, at=NOON)


@pytest.fixture
def earner(contributor, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    return contributor


@pytest.fixture
def active(earner):
    distribution = publish()
    activate(distribution)
    return distribution


def test_a_proof_leads_to_the_root(earner, builder, active):
    for number, amount in enumerate([5, 6]):
        link(builder, f"0x{number + 1:040x}")
        earn(builder, amount, number)
        active = publish()
        activate(active)

    proof = claims.claim_proof(FIRST)

    leaf = trees.leaf(chain_id=31337, distributor=active.distributor, account=FIRST, cumulative=100)
    assert trees.verify(root=bytes.fromhex(active.root[2:]), leaf=leaf, proof=proof.proof)
    assert (proof.claimable, proof.distribution) == (100, active)


def test_the_proof_of_another_address_does_not_fit(earner, builder):
    earn(builder, 7)
    link(builder, SECOND)
    active = publish()
    activate(active)

    stolen = claims.claim_proof(SECOND).proof
    leaf = trees.leaf(chain_id=31337, distributor=active.distributor, account=FIRST, cumulative=7)
    assert not trees.verify(root=bytes.fromhex(active.root[2:]), leaf=leaf, proof=stolen)


def test_our_relayer_is_asked_once(earner, active):
    claim = relay(earner)

    intent = Intent.objects.get(pk=claim.intent_id)
    assert intent.kind == Intent.Kind.CLAIM
    assert bytes(intent.data) == calldata.claim(account=FIRST, cumulative=100, proof=[])
    assert (claim.state, claim.amount) == (Claim.State.REQUESTED, 100)
    with pytest.raises(ClaimOnItsWay):
        relay(earner)


def test_a_claim_that_is_final_leaves_escrow(earner, active):
    claim = relay(earner)

    assert paid() == claim

    claim.refresh_from_db()
    assert claim.state == Claim.State.PAID
    assert balance_of(Account.Kind.ESCROW) == 0
    assert balance_of(Account.Kind.DISTRIBUTOR) == 0
    assert selectors.earnings(earner).claimed == 100
    assert Notification.objects.filter(user=earner, kind="ledger.claimed").count() == 1


def test_a_log_is_booked_once(earner, active):
    assert paid() == paid(tx_hash="0xc1")
    assert PayoutAddress.objects.get().claimed == 100


def test_claiming_twice_gets_a_clear_answer(earner, active):
    paid()

    with pytest.raises(NothingToClaim, match="were claimed already"):
        relay(earner)
    with pytest.raises(NothingToClaim):
        claims.claim_proof(FIRST)


def test_a_wallet_that_claims_by_itself_needs_no_request(earner, active):
    claim = paid()

    assert (claim.state, claim.requested_by) == (Claim.State.PAID, None)


def test_a_relay_that_failed_because_the_wallet_was_first_is_no_failure(earner, active):
    claim = relay(earner)
    paid()

    claims.on_intent_failed(intent_id=claim.intent_id, reason="NothingToClaim", at=NOON)

    claim.refresh_from_db()
    assert claim.state == Claim.State.PAID


def test_a_relay_that_failed_can_be_asked_again(earner, active):
    claim = relay(earner)

    claims.on_intent_failed(intent_id=claim.intent_id, reason="Out of funds.", at=NOON)

    claim.refresh_from_db()
    assert (claim.state, claim.failure_reason) == (Claim.State.FAILED, "Out of funds.")
    assert relay(earner).state == Claim.State.REQUESTED
    assert balance_of(Account.Kind.ESCROW) == 100


def test_the_next_claim_pays_what_was_added(earner, active):
    paid()
    earn(earner, 5, 1)
    second = publish()
    activate(second)

    assert claims.claim_proof(FIRST).claimable == 5
    paid(5, 105, tx_hash="0xc2")
    assert PayoutAddress.objects.get().claimed == 105


def test_somebody_elses_wallet_is_refused(earner, stranger, active):
    with pytest.raises(UnknownAccount, match="Link this wallet"):
        relay(stranger)
    assert not Claim.objects.exists()


def test_an_address_that_was_never_paid_is_refused(earner, active):
    link(earner, SECOND)

    with pytest.raises(UnknownAccount, match="Nothing was ever published"):
        relay(earner, SECOND)
    with pytest.raises(UnknownAccount):
        paid(address=SECOND)


def test_before_the_root_is_active_a_claim_waits(earner):
    publish()

    with pytest.raises(WaitingForChain, match="waiting for the chain"):
        relay(earner)


def test_without_a_chain_claims_wait_and_say_so(earner, settings):
    settings.CHAIN_ENABLED = False
    publish()

    with pytest.raises(WaitingForChain, match="no chain yet"):
        claims.claim_proof(FIRST)
    pending = selectors.earnings(earner).pending
    assert [(item.amount, item.reason) for item in pending] == [(100, selectors.WAITING_FOR_CHAIN)]


def test_more_than_was_published_is_never_booked(earner, active):
    with pytest.raises(InsufficientFunds, match="not yet claimed"):
        paid(101, 101)
    assert not Claim.objects.exists()
