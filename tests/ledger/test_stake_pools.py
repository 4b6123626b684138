"""Stake pools on a real chain: fees flow out once, and our numbers are the contract's."""

from uuid import UUID

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from config.books import reconcile
from config.reconciliation import check_chain
from ledger.calldata import id_word
from ledger.chain.deploy import name_word
from ledger.fees import Terms
from ledger.models import (
    Account,
    Intent,
    PoolFunding,
    PoolMirror,
    PoolSlash,
    StakePool,
    StakePosition,
)
from ledger.reconciliation import STAKE_POOLS, check_ledger
from ledger.services import chain as intents
from ledger.services import pools
from ledger.services.holds import Refs
from ledger.services.poolfunding import fund_pools
from tests.chain_fixtures import (
    ALICE,
    BOB,
    GUARDIAN,
    OPEN,
    OPERATOR,
    chain,
    chain_settings,
    deployed_chain,
    worker,
)
from tests.ledger.books import SPLIT, balance_of, capture, hold_for, person

__all__ = ["chain", "chain_settings", "deployed_chain", "worker"]
pytestmark = pytest.mark.django_db(transaction=True)
FLEXIBLE, LOCKED = name_word("flexible"), name_word("locked")
FEE = OPEN // 10 + 7
DAY = 86_400


@pytest.fixture(autouse=True)
def no_chain(settings):
    settings.STAKERS_FUND_MINIMUM_WEI = 1


@pytest.fixture
def payer(worker):
    user = person("payer")
    intents.request_faucet(user=user, amount=OPEN, acting_user=user, key="1", at=timezone.now())
    worker.run()
    return user


def pay(payer, *, model=None, bps=0, fee=FEE):
    """A fee whose terms give `bps` of the owner's part to the stakers of `model`."""
    owner = person(f"owner{uuid7().hex[-8:]}")
    terms = Terms(SPLIT, owner.pk, bps)
    hold = hold_for(payer, fee, terms=terms)
    capture(hold, fee, terms=terms, refs=Refs(model=model or uuid7(), completion=hold.cause_id))


def fund(weight=15_000):
    return fund_pools(locked_weight_bps=weight, at=timezone.now())


def stakers():
    return Account.objects.filter(kind="STAKERS").total()


def stake(chain, who, pool, amount):
    chain.send(who, "StakePools", "stake", pool, value=amount)


def same_as_the_contract(chain):
    """Every position and total as `position()` and `solvency()` say, to the wei."""
    while pools.mirror():
        pass
    now = chain.now()
    for mine in StakePosition.objects.select_related("pool"):
        read = chain.read(
            "StakePools", "position", bytes.fromhex(mine.pool.pool_id[2:]), mine.address
        )
        staked, cooling, releases, earned, *_ = read
        told = (mine.staked, mine.cooling, mine.releases_at, mine.earned_at(now))
        assert told == (staked, cooling, releases, earned)
    held, *parts = chain.read("StakePools", "solvency")
    assert tuple(pools.owed().values()) == tuple(parts)
    assert held == sum(parts)


def differences():
    findings = [*check_ledger(), *check_chain()]
    return {finding.name: finding.difference for finding in findings if not finding.holds}


def test_where_nobody_is_staked_the_money_waits(worker, payer):
    pay(payer)
    worker.index()
    pools.mirror()
    assert StakePool.objects.count() == 2
    assert fund() == []
    assert stakers() > 0
    assert not Intent.objects.filter(kind="STAKERS").exists()


def test_fees_of_stakers_go_to_the_pools_by_stake_and_weight_once(worker, payer):
    stake(worker.chain, ALICE, FLEXIBLE, 3 * OPEN)
    stake(worker.chain, BOB, LOCKED, 2 * OPEN)
    worker.index()
    pay(payer)
    part = stakers()
    sent = fund()
    assert sorted(one.amount for one in sent) == [part // 2, part - part // 2]
    assert stakers() == 0
    assert fund() == []
    pay(payer)
    assert fund() == [], "one at a time from one account"
    assert {f.name for f in check_ledger() if not f.holds} == set()

    worker.run(rounds=8)

    assert set(PoolFunding.objects.values_list("state", flat=True)) == {"PAID"}
    assert balance_of(Account.Kind.POOLING) == 0
    same_as_the_contract(worker.chain)
    assert StakePool.objects.get(name="locked").rewards in (part // 2, part - part // 2)
    assert differences() == {}
    # The mirror may be ahead of the sender: the event is booked, and its intent not final yet.
    Intent.objects.filter(kind="STAKERS").update(state=Intent.State.SAFE)
    assert differences() == {}
    assert len(fund()) == 2


def test_a_models_part_goes_to_those_who_staked_on_it_and_opens_its_pool(worker, payer):
    model = uuid7()
    pay(payer, model=model, bps=5_000)
    waiting = balance_of(Account.Kind.MODEL_STAKES, model)
    assert waiting > 0
    worker.index()
    assert fund() == []
    stake(worker.chain, ALICE, id_word(model), OPEN)
    worker.index()
    (funding,) = fund()
    assert (funding.amount, UUID(funding.pool_id[-32:])) == (waiting, model)
    worker.run(rounds=8)
    assert balance_of(Account.Kind.MODEL_STAKES, model) == 0
    same_as_the_contract(worker.chain)
    pool = StakePool.objects.get(model_id=model)
    assert (pool.kind, pool.rewards) == ("FLEXIBLE", waiting)


def test_our_numbers_are_the_contracts_through_a_whole_life(worker, payer):
    chain = worker.chain
    stake(chain, ALICE, FLEXIBLE, 3 * OPEN)
    stake(chain, BOB, FLEXIBLE, OPEN)
    chain.send(OPERATOR, "StakePools", "fund", FLEXIBLE, value=10**18 + 11)
    chain.warp(DAY)
    stake(chain, BOB, FLEXIBLE, 7 * OPEN)
    chain.warp(1_000)
    chain.send(ALICE, "StakePools", "unstake", FLEXIBLE, OPEN + 5)
    chain.send(OPERATOR, "StakePools", "claim", FLEXIBLE, ALICE)
    chain.send(OPERATOR, "StakePools", "fund", FLEXIBLE, value=10**17)
    chain.send(OPERATOR, "StakePools", "proposeSlash", FLEXIBLE, BOB, 1_000, b"\1" * 32)
    chain.send(BOB, "StakePools", "appeal", 1, b"\2" * 32, value=10 * OPEN)
    chain.send(OPERATOR, "StakePools", "proposeSlash", FLEXIBLE, ALICE, 2_500, b"\3" * 32)
    worker.index()
    same_as_the_contract(chain)
    chain.warp(8 * DAY)
    chain.send(OPERATOR, "StakePools", "executeSlash", 2)
    chain.send(GUARDIAN, "StakePools", "cancelSlash", 1)
    chain.send(ALICE, "StakePools", "withdraw", FLEXIBLE)
    worker.index()
    same_as_the_contract(chain)
    states = dict(PoolSlash.objects.values_list("number", "state"))
    assert states == {1: "CANCELED", 2: "EXECUTED"}
    chain.send(OPERATOR, "StakePools", "collectSlashed")
    worker.index()
    same_as_the_contract(chain)
    rows = list(StakePosition.objects.values_list("address", "staked", "earned"))
    pools.rebuild()
    assert list(StakePosition.objects.values_list("address", "staked", "earned")) == rows
    assert differences() == {}


def test_what_the_chain_refuses_comes_back_and_is_sent_again(worker, payer):
    stake(worker.chain, ALICE, FLEXIBLE, OPEN)
    worker.index()
    pay(payer)
    part = stakers()
    (funding,) = fund()
    intent = Intent.objects.get(pk=funding.intent_id)
    intent.state, intent.failure_reason = "FAILED", "GatewayPaused()"
    intent.save()
    intents.announce(intent, at=timezone.now())
    intents.announce(intent, at=timezone.now())
    funding.refresh_from_db()
    assert (funding.state, funding.failure_reason) == ("FAILED", "GatewayPaused()")
    assert (stakers(), balance_of(Account.Kind.POOLING)) == (part, 0)
    assert {f.name for f in check_ledger() if not f.holds} == set()
    assert len(fund()) == 1


def test_the_nightly_look_at_the_contract_is_written_down(worker, payer):
    stake(worker.chain, ALICE, LOCKED, OPEN)
    worker.index()
    pools.mirror()
    reconcile(at=timezone.now())
    looked = PoolMirror.objects.get()
    assert (looked.checked_held, looked.checked_owed) == (OPEN, OPEN)
    worker.chain.client.rpc("anvil_setBalance", worker.chain.address("StakePools"), hex(OPEN - 1))
    worker.chain.mine()
    worker.index()
    assert differences() == {STAKE_POOLS: -1}
