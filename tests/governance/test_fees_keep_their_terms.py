"""A fee is divided by what was in force at its hold, whatever holders or the chain do meanwhile."""

import pytest
from django.utils import timezone

from governance import selectors
from governance.models import ParameterVersion
from governance.services import projection
from ledger.fees import Terms
from ledger.models import Entry
from tests.chain_fixtures import ALICE
from tests.governance.holders import NEW_SPLIT, Holders
from tests.ledger.books import OPEN, capture, fund, hold_for, person

FEE = 10_000


@pytest.fixture
def payer(holders: Holders):
    user = person("payer")
    fund(user, OPEN)
    return user


def held(payer, owner):
    """A hold by the terms in force now."""
    terms = Terms.of_split(selectors.current_split(), owner.pk)
    return hold_for(payer, FEE, terms=terms)


def paid(entry: Entry) -> dict[str, int]:
    return {
        leg.account.kind: leg.amount
        for leg in entry.postings.select_related("account")
        if leg.account.kind in ("PLATFORM", "EARNINGS", "STAKERS", "SUSPENSE")
    }


def decide(holders: Holders) -> None:
    """Holders propose, vote and execute another split; it is not read yet."""
    holders.wrap(ALICE, 100 * OPEN)
    proposal = holders.propose()
    holders.open_vote()
    holders.vote(ALICE, proposal, 1)
    holders.close_vote()
    holders.later("queue")
    holders.pass_timelock()
    holders.later("execute")


OLD = {"PLATFORM": 1000, "EARNINGS": 2000, "STAKERS": 2000, "SUSPENSE": 5000}
NEW = {"PLATFORM": 500, "EARNINGS": 2500, "STAKERS": 2000, "SUSPENSE": 5000}


def test_a_proposal_executed_between_hold_and_capture_changes_nothing(holders, payer) -> None:
    owner = person("owner")
    before = held(payer, owner)
    decide(holders)
    holders.mirror()
    assert selectors.current_split().version == before.split_version + 1

    entry = capture(before, FEE)
    after = capture(held(payer, owner), FEE)

    assert (entry.parameter_version, paid(entry)) == (before.split_version, OLD)
    assert (after.parameter_version, paid(after)) == (before.split_version + 1, NEW)
    assert NEW_SPLIT["platform"] == 500


def test_what_is_not_final_divides_no_fee_and_a_reorganisation_changes_no_entry(
    late_finality, holders, payer
) -> None:
    owner = person("owner")
    snapshot = holders.chain.client.rpc("evm_snapshot")
    decide(holders)
    holders.mirror()
    assert ParameterVersion.objects.get(version=2).state == ParameterVersion.State.SEEN
    entry = capture(held(payer, owner), FEE)
    assert paid(entry) == OLD

    holders.chain.client.rpc("evm_revert", snapshot)
    holders.chain.warp(11)
    holders.chain.mine(40)
    holders.worker.index()
    projection.rebuild(at=timezone.now())

    assert not ParameterVersion.objects.filter(version=2).exists()
    entry.refresh_from_db()
    assert (paid(entry), Entry.objects.filter(reverses=entry).exists()) == (OLD, False)
    assert paid(capture(held(payer, owner), FEE)) == OLD
