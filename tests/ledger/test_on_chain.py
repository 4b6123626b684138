"""The whole way of the money on a real chain: in by the Gateway, out by a claim, to the wei."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from config.reconciliation import check_chain
from ledger.models import Account, Claim, Distribution, Intent, PayoutChoice, RelayReserve
from ledger.reconciliation import check_ledger
from ledger.services import chain as intents
from ledger.services.claims import claim_proof, request_relayed_claim
from ledger.services.distributions import publish_distribution
from ledger.services.holds import Refs
from ledger.services.relays import choose_payouts, relay_fee
from ledger.services.settlement import Credit, settle_suspense
from tests.chain_fixtures import ALICE, OPEN, chain, chain_settings, deployed_chain, worker
from tests.ledger.books import balance_of, capture, hold_for, link, person

__all__ = ["chain", "chain_settings", "deployed_chain", "worker"]
pytestmark = pytest.mark.django_db(transaction=True)
# A fresh address that nobody has sent anything to, and anvil's third unlocked account.
FRESH = "0x" + "9" * 40
FEE = 10**15 + 7


@pytest.fixture(autouse=True)
def no_chain():
    """This file has one."""


@pytest.fixture
def payer(worker):
    user = person("payer")
    intents.request_faucet(user=user, amount=OPEN, acting_user=user, key="first", at=timezone.now())
    worker.run()
    assert balance_of(Account.Kind.USER, user.pk) == OPEN
    return user


def answer(payer, contributor, fee=FEE):
    """One paid completion, all of whose contributors' part goes to one person."""
    hold = hold_for(payer, 2 * fee)
    capture(hold, fee, refs=Refs(model=payer.pk, completion=hold.cause_id))
    settle_suspense(
        completion_id=hold.cause_id,
        at=timezone.now(),
        credits=[Credit("contributor", contributor.pk, 10**9)],
    )


def publish():
    return publish_distribution(at=timezone.now(), acting_user=None)


def differences():
    """What differs between ledger and chain, in wei; these tests write no receipts."""
    findings = [*check_ledger(), *check_chain()]
    return {finding.name: finding.difference for finding in findings if not finding.holds}


def test_a_contributor_is_paid_in_a_wallet_without_gas(worker, payer, settings):
    settings.RELAY_GAS_PRICE_WEI = 10**6
    contributor = person("contributor")
    answer(payer, contributor)
    link(contributor, FRESH)
    choose_payouts(
        user=contributor,
        claims=PayoutChoice.Claims.ASK,
        push=False,
        shown_fee=relay_fee(),
        acting_user=contributor,
        at=timezone.now(),
    )
    earned = balance_of(Account.Kind.EARNINGS, contributor.pk)
    distribution = publish()

    worker.run(rounds=10)

    distribution.refresh_from_db()
    assert distribution.state == Distribution.State.ACTIVE, distribution.failure_reason
    assert worker.chain.read("RewardDistributor", "root").hex() == distribution.root[2:]
    assert worker.chain.read("RewardDistributor", "epoch") == 1
    claim = request_relayed_claim(address=FRESH, acting_user=contributor, at=timezone.now())
    worker.run()

    claim.refresh_from_db()
    assert claim.state == Claim.State.PAID, claim.failure_reason
    # The fee was set aside before the epoch, so the leaf is net of it; it is the platform's now.
    assert earned == (FEE + 1) // 2
    assert worker.chain.balance(FRESH) == claim.amount == earned - relay_fee()
    assert balance_of(Account.Kind.RELAY) == 0
    assert RelayReserve.objects.get().state == RelayReserve.State.SPENT
    assert balance_of(Account.Kind.ESCROW) == 0
    assert differences() == {}


def test_a_wallet_claims_by_itself_and_pays_its_gas(worker, payer):
    contributor = person("contributor")
    answer(payer, contributor)
    link(contributor, ALICE)
    publish()
    worker.run(rounds=10)
    ready = claim_proof(ALICE)
    before = worker.chain.balance(ALICE)

    sent = worker.chain.submit(ALICE, ready.distribution.distributor, ready.calldata)
    worker.run()

    receipt = worker.chain.client.receipt(sent)
    assert worker.chain.balance(ALICE) == before + ready.claimable - receipt.fee
    claim = Claim.objects.get()
    assert (claim.state, claim.requested_by, claim.amount) == (
        Claim.State.PAID,
        None,
        ready.claimable,
    )
    assert differences() == {}


def test_the_next_epoch_pays_what_was_added(worker, payer):
    contributor = person("contributor")
    link(contributor, FRESH)
    for _ in range(2):
        answer(payer, contributor)
        publish()
        worker.run(rounds=10)
        request_relayed_claim(address=FRESH, acting_user=contributor, at=timezone.now())
        worker.run()

    assert worker.chain.read("RewardDistributor", "epoch") == 2
    # Each time a fee was set aside, and each time it was spent.
    assert worker.chain.balance(FRESH) == 2 * ((FEE + 1) // 2 - relay_fee())
    assert Claim.objects.filter(state=Claim.State.PAID).count() == 2
    assert differences() == {}


def test_a_relay_that_the_wallet_overtook_fails_without_a_trace(worker, payer):
    contributor = person("contributor")
    answer(payer, contributor)
    link(contributor, ALICE)
    publish()
    worker.run(rounds=10)
    ready = claim_proof(ALICE)
    request_relayed_claim(address=ALICE, acting_user=contributor, at=timezone.now())
    worker.chain.submit(ALICE, ready.distribution.distributor, ready.calldata)
    worker.chain.mine()

    worker.run(rounds=8)

    assert [claim.state for claim in Claim.objects.all()] == [Claim.State.PAID]
    assert Intent.objects.get(kind=Intent.Kind.CLAIM).state == Intent.State.FAILED
    # The wallet claimed first, so the fee is back with its owner.
    assert balance_of(Account.Kind.EARNINGS, contributor.pk) == relay_fee()
    assert differences() == {}


def test_open_that_arrives_unasked_is_told_apart_to_the_wei(worker, payer):
    worker.chain.transfer(ALICE, worker.chain.address("RewardDistributor"), 5)
    worker.run()

    assert balance_of(Account.Kind.DISTRIBUTOR) == -5
    assert balance_of(Account.Kind.UNASSIGNED) == 5
    assert differences() == {}


def test_open_that_no_event_told_of_is_a_difference(worker, payer):
    gateway = worker.chain.address("Gateway")
    held = worker.chain.balance(gateway)
    worker.chain.client.rpc("anvil_setBalance", gateway, hex(held + 3))
    worker.run()

    assert differences() == {"OPEN in the Gateway contract": 3}
    with pytest.raises(CommandError, match="1 of"):
        call_command("reconcile", stdout=StringIO())
