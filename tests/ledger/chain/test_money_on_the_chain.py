"""Earnings go to the contract, the root follows, and a claim pays exactly once."""

from __future__ import annotations

import pytest
from django.utils import timezone

from accounts.models import Wallet
from ledger.chain.addresses import from_private_key
from ledger.errors import NothingToClaim
from ledger.models import Account, Claim, Distribution
from ledger.services import chain as intents
from ledger.services.claims import claim_proof, request_relayed_claim
from ledger.services.distributions import publish_distribution
from tests.chain_fixtures import CAROL, OPEN, Worker
from tests.ledger.books import balance_of, earn, person

CONTRIBUTOR_KEY = "0x" + "5a" * 32
CONTRIBUTOR = from_private_key(CONTRIBUTOR_KEY)


@pytest.fixture
def contributor(worker: Worker):
    """Somebody with earnings, a wallet that never held OPEN, and a Gateway that holds deposits."""
    payer = person("payer")
    intents.request_faucet(
        user=payer, amount=10 * OPEN, acting_user=payer, key="first", at=timezone.now()
    )
    worker.run()
    user = person("contributor")
    Wallet.objects.create(user=user, address=CONTRIBUTOR, is_primary=True)
    return user


def published(worker: Worker, user, amount: int, number: int = 0) -> Distribution:
    earn(user, amount, number)
    distribution = publish_distribution(at=timezone.now(), acting_user=None)
    assert distribution is not None
    worker.run(10)
    distribution.refresh_from_db()
    return distribution


def test_a_distribution_is_funded_then_its_root_is_on_the_chain(worker, contributor) -> None:
    distribution = published(worker, contributor, 2 * OPEN)
    chain = worker.chain
    assert distribution.state == Distribution.State.ACTIVE
    assert "0x" + chain.read("RewardDistributor", "root").hex() == distribution.root
    assert chain.balance(chain.address("RewardDistributor")) == 2 * OPEN
    assert chain.balance(chain.address("Gateway")) == 8 * OPEN


def test_a_relayed_claim_raises_the_wallet_by_exactly_the_claim(worker, contributor) -> None:
    published(worker, contributor, 2 * OPEN)
    before = worker.chain.balance(CONTRIBUTOR)
    claim = request_relayed_claim(address=CONTRIBUTOR, acting_user=contributor, at=timezone.now())
    worker.run()
    claim.refresh_from_db()
    assert claim.state == Claim.State.PAID
    assert worker.chain.balance(CONTRIBUTOR) - before == 2 * OPEN
    assert balance_of(Account.Kind.ESCROW) == 0
    assert balance_of(Account.Kind.DISTRIBUTOR) == 0
    with pytest.raises(NothingToClaim):
        claim_proof(CONTRIBUTOR)


def test_the_wallets_own_claim_is_booked_as_well(worker, contributor) -> None:
    published(worker, contributor, 2 * OPEN)
    ready = claim_proof(CONTRIBUTOR)
    distributor = worker.chain.address("RewardDistributor")
    worker.chain.submit(CAROL, distributor, ready.calldata)
    worker.run()
    assert Claim.objects.get().state == Claim.State.PAID
    assert balance_of(Account.Kind.ESCROW) == 0


def test_where_the_wallet_claims_first_the_relayer_pays_nothing(worker, contributor) -> None:
    published(worker, contributor, 2 * OPEN)
    ready = claim_proof(CONTRIBUTOR)
    request_relayed_claim(address=CONTRIBUTOR, acting_user=contributor, at=timezone.now())
    worker.chain.submit(CAROL, worker.chain.address("RewardDistributor"), ready.calldata)
    worker.chain.mine()
    worker.run()
    assert worker.chain.balance(CONTRIBUTOR) == 2 * OPEN
    assert Claim.objects.filter(state=Claim.State.PAID).count() == 1
    assert balance_of(Account.Kind.ESCROW) == 0


def test_the_next_epoch_pays_what_came_since(worker, contributor) -> None:
    published(worker, contributor, 2 * OPEN)
    request_relayed_claim(address=CONTRIBUTOR, acting_user=contributor, at=timezone.now())
    worker.run()
    second = published(worker, contributor, 3 * OPEN, 1)
    assert (second.epoch, second.total) == (2, 5 * OPEN)
    request_relayed_claim(address=CONTRIBUTOR, acting_user=contributor, at=timezone.now())
    worker.run()
    assert worker.chain.balance(CONTRIBUTOR) == 5 * OPEN
    assert worker.chain.read("RewardDistributor", "totalClaimed") == 5 * OPEN
