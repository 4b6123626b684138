"""Reorganisations of any depth, with everything in flight: the books follow, nothing is paid twice.

REORGANISATIONS=200 runs the long campaign; REORGANISATION_SEED picks another one.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from ledger.models import Claim, Intent, Withdrawal
from tests.chain_fixtures import Worker
from tests.ledger.chain.reorganising import Campaign

ROUNDS = int(os.environ.get("REORGANISATIONS", "10"))
SEED = int(os.environ.get("REORGANISATION_SEED", "5"))
DEEPEST = 64


@pytest.fixture
def campaign(worker: Worker, late_finality: object, settings: object) -> Campaign:
    settings.RELAY_GAS_PRICE_WEI = 0  # type: ignore[attr-defined]
    # A local node may lose its last blocks; this one is taken at its word.
    settings.CHAIN_IS_LOCAL = False  # type: ignore[attr-defined]
    settings.WITHDRAWAL_MINIMUM_WEI = 1  # type: ignore[attr-defined]
    campaign = Campaign(worker, SEED)
    campaign.start()
    return campaign


def test_whatever_the_chain_takes_back_the_books_equal_it_and_each_is_paid_once(
    campaign: Campaign,
) -> None:
    for number in range(ROUNDS):
        campaign.act()
        past_finality = campaign.random.random() < 0.08 or number == ROUNDS - 1
        depth = campaign.random.randint(65, 80) if past_finality else None
        campaign.reorganise(depth or campaign.random.randint(1, DEEPEST))
        campaign.worker.chain.mine()
        campaign.index()
        campaign.compare()
        campaign.come_again()

    campaign.drain()
    campaign.compare()
    print(campaign.told())

    gateway = campaign.events("Gateway", campaign.latest())
    batches = ("BatchPaid", "DistributorFunded")
    paid = Counter(arguments["batchId"] for name, arguments in gateway if name in batches)
    assert set(paid.values()) <= {1}
    # Refused for good is only a claim that the wallet made first, and what staff started again.
    failed = set(Intent.objects.filter(state=Intent.State.FAILED).values_list("kind", flat=True))
    assert failed <= {Intent.Kind.CLAIM, Intent.Kind.FUND, Intent.Kind.PUBLISH}, campaign.told()
    for one in campaign.people:
        given = Withdrawal.objects.filter(user=one.user, state=Withdrawal.State.PAID)
        balance = campaign.worker.chain.balance(one.wallet)
        assert balance == sum(row.amount for row in given), campaign.told()
    for one in campaign.authors:
        claimed = Claim.objects.filter(payee__address=one.wallet, state=Claim.State.PAID)
        balance = campaign.worker.chain.balance(one.wallet)
        assert balance == sum(row.amount for row in claimed), campaign.told()
    anchored = [arguments for name, arguments in campaign.events("LogAnchor", campaign.latest())]
    assert sum("sequence" in one for one in anchored) == campaign.anchors
