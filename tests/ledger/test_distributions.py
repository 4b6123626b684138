"""Publishing: out of earnings into escrow, one cumulative leaf an address, funded then rooted."""

import json
from datetime import timedelta
from uuid import UUID

import pytest

from accounts import blobs
from accounts.models import Notification
from ledger import calldata
from ledger.chain import distribution as trees
from ledger.errors import InvalidEntry, LedgerError, UnknownAccount
from ledger.models import Account, Distribution, Intent, PayoutAddress
from ledger.selectors import why_not_active
from ledger.services import autoclaims, roots
from ledger.setwise import leaves_under
from tests.ledger.books import (
    FIRST,
    NOON,
    OPEN,
    SECOND,
    balance_of,
    earn,
    fund,
    funded,
    link,
    person,
    publish,
    rooted,
)

pytestmark = pytest.mark.django_db
State = Distribution.State


def leaves(distribution):
    rows = distribution.leaves.select_related("payee")
    return {row.payee.address: (row.amount, row.cumulative) for row in rows}


@pytest.fixture
def earner(contributor):
    earn(contributor, 100)
    link(contributor, FIRST)
    return contributor


def test_earnings_move_into_escrow(earner):
    distribution = publish()

    assert balance_of(Account.Kind.EARNINGS, earner.pk) == 0
    assert balance_of(Account.Kind.ESCROW) == 100
    assert (distribution.epoch, distribution.amount, distribution.total) == (1, 100, 100)
    assert leaves(distribution) == {FIRST: (100, 100)}


def test_without_a_wallet_the_balance_stays(earner, builder):
    earn(builder, 50)

    publish()

    assert balance_of(Account.Kind.EARNINGS, builder.pk) == 50


def test_nothing_to_publish_publishes_nothing(contributor):
    assert publish() is None


def test_dust_waits(earner, builder):
    earn(builder, 9)
    link(builder, SECOND)

    assert leaves(publish(minimum=10)) == {FIRST: (100, 100)}
    assert balance_of(Account.Kind.EARNINGS, builder.pk) == 9


def test_amounts_cumulate_per_address_for_ever(earner, builder):
    publish()
    earn(earner, 5, 1)
    earn(builder, 7)
    link(builder, SECOND)

    assert leaves(publish()) == {FIRST: (5, 105), SECOND: (7, 7)}
    earn(builder, 1, 1)
    third = publish()
    assert leaves(third) == {SECOND: (1, 8)}
    assert dict(leaves_under(3)) == {FIRST: 105, SECOND: 8}
    assert dict(leaves_under(2)) == {FIRST: 105, SECOND: 7}
    assert dict(leaves_under(1)) == {FIRST: 100}
    assert (third.amount, third.total, third.leaf_count) == (1, 113, 2)


def test_another_wallet_gets_later_earnings_only(earner):
    publish()
    link(earner, SECOND)
    earn(earner, 5, 1)

    assert leaves(publish()) == {SECOND: (5, 5)}
    assert dict(leaves_under(2)) == {FIRST: 100, SECOND: 5}


def test_two_people_on_one_address_after_each_other_are_one_leaf(earner, builder):
    publish()
    earner.wallets.all().delete()
    earn(builder, 7)
    link(builder, FIRST)

    assert leaves(publish()) == {FIRST: (7, 107)}


def test_without_a_chain_a_distribution_waits_as_a_draft(earner):
    distribution = publish()

    assert (distribution.state, distribution.root) == (State.DRAFT, "")
    assert not Intent.objects.exists()


def test_with_a_chain_funding_goes_first_and_the_root_follows(earner, deployed, settings):
    fund(earner, OPEN)
    distribution = publish()

    assert distribution.state == State.FUNDING
    funding = Intent.objects.get()
    assert funding.kind == Intent.Kind.FUND
    assert bytes(funding.data) == calldata.fund_distributor(distribution.pk, 100)

    funded(distribution)
    assert distribution.state == State.ROOT_SUBMITTED
    assert balance_of(Account.Kind.DISTRIBUTOR) == -100
    root = Intent.objects.get(kind=Intent.Kind.PUBLISH)
    assert bytes(root.data) == calldata.publish(
        epoch=1,
        total=100,
        root=bytes.fromhex(distribution.root[2:]),
        data_sha256=bytes.fromhex(distribution.data_sha256),
    )

    rooted(distribution)
    assert distribution.state == State.ACTIVE
    for _ in range(2):
        autoclaims.tell_claimable(distribution_id=distribution.pk, at=NOON)
    told = Notification.objects.filter(user=earner, kind="ledger.claimable").values_list("title")
    assert list(told) == [("0.0000000000000001 OPEN can be claimed",)]


def test_anyone_rebuilds_the_root_from_the_published_file(earner, builder, deployed):
    earn(builder, 7)
    link(builder, SECOND)
    distribution = publish()

    data = json.loads(blobs.read_bytes(distribution.data_sha256))
    tree = trees.build(
        chain_id=int(data["chain_id"]),
        distributor=data["distributor"],
        amounts=[(account, int(cumulative)) for account, cumulative in data["leaves"]],
    )
    assert tree.root_hex == distribution.root == data["root"]
    assert tree.total == distribution.total == int(data["total"])


def test_events_that_come_twice_change_nothing(earner, deployed):
    distribution = publish()
    for _ in range(2):
        funded(distribution)
    for _ in range(2):
        rooted(distribution)

    assert distribution.state == State.ACTIVE
    assert balance_of(Account.Kind.DISTRIBUTOR) == -100
    assert Intent.objects.filter(kind=Intent.Kind.PUBLISH).count() == 1


def test_one_distribution_is_on_its_way_at_a_time(earner, deployed):
    first = publish()
    earn(earner, 5, 1)
    second = publish()
    assert second.state == State.DRAFT

    funded(first)
    rooted(first)

    second.refresh_from_db()
    assert second.state == State.FUNDING


def test_drafts_go_on_their_way_when_a_chain_is_there(earner, settings):
    first = publish()
    settings.CHAIN_ENABLED = True
    settings.CHAIN_DEPLOYMENT.write_text(
        json.dumps(
            {
                "chain_id": 31337,
                "block": 0,
                "genesis_hash": "0x00",
                "addresses": {"Gateway": FIRST, "RewardDistributor": SECOND},
            }
        )
    )

    roots.advance_distributions(at=NOON)

    first.refresh_from_db()
    assert (first.state, first.distributor) == (State.FUNDING, SECOND)


def test_a_failed_intent_is_told_to_staff_who_start_it_again(earner, deployed):
    staff = person("staff")
    type(staff).objects.filter(pk=staff.pk).update(is_staff=True)
    distribution = publish()

    roots.on_intent_failed(
        intent_id=distribution.funding_intent_id, reason="It reverted: Paused.", at=NOON
    )

    distribution.refresh_from_db()
    assert (distribution.state, distribution.failure_reason) == (
        State.FAILED,
        "It reverted: Paused.",
    )
    assert Notification.objects.filter(user=staff, kind="ledger.distribution_failed").exists()

    retry = {"distribution": distribution, "acting_user": staff, "at": NOON}
    roots.retry_distribution(**retry)
    distribution.refresh_from_db()
    assert distribution.state == State.FUNDING
    assert Intent.objects.filter(kind=Intent.Kind.FUND).count() == 2
    with pytest.raises(LedgerError, match="Only a distribution that failed"):
        roots.retry_distribution(**retry)


def test_a_root_that_is_not_ours_is_refused(earner, deployed):
    distribution = publish()
    funded(distribution)

    with pytest.raises(InvalidEntry, match="not ours"):
        roots.on_root_published(epoch=1, root="0x" + "ab" * 32, chain_id=31337, at=NOON)
    distribution.refresh_from_db()
    assert distribution.state == State.ROOT_SUBMITTED


@pytest.mark.parametrize("batch", [None, UUID(int=5)])
def test_funding_for_no_distribution_is_refused(earner, deployed, batch):
    with pytest.raises(UnknownAccount):
        funded(publish(), batch_id=batch)
    assert balance_of(Account.Kind.DISTRIBUTOR) == 0


def test_funding_with_another_amount_is_refused(earner, deployed):
    with pytest.raises(InvalidEntry, match="99 wei"):
        funded(publish(), amount=99)


def test_a_gift_to_the_distributor_is_kept_apart(db):
    for _ in range(2):
        roots.on_gift(sender=SECOND, amount=5, chain_id=31337, tx_hash="0x1", log_index=0, at=NOON)

    assert balance_of(Account.Kind.DISTRIBUTOR) == -5
    assert balance_of(Account.Kind.UNASSIGNED) == 5


def test_a_total_stays_below_two_to_the_128(earner):
    earn(earner, 2**128, 1)

    with pytest.raises(LedgerError, match=r"2\*\*128"):
        publish()
    assert balance_of(Account.Kind.ESCROW) == 0
    assert not PayoutAddress.objects.exists()


class TestWithADelay:
    """Where the contract lets a root wait, so that the guardian can stop a wrong one."""

    LATER = NOON + timedelta(hours=1)

    @pytest.fixture
    def waiting(self, earner, deployed):
        distribution = publish()
        funded(distribution)
        roots.on_root_proposed(epoch=1, root=distribution.root, activates_at=self.LATER)
        distribution.refresh_from_db()
        return distribution

    def activations(self):
        rows = Intent.objects.filter(kind=Intent.Kind.PUBLISH)
        return [row for row in rows if bytes(row.data) == calldata.activate()]

    def test_it_says_until_when(self, waiting):
        assert "waits until 21 Nov 2026 13:00 UTC" in why_not_active(waiting)

    def test_the_root_is_put_in_force_once_the_delay_is_over(self, waiting):
        roots.advance_distributions(at=self.LATER)
        assert self.activations() == []

        for _ in range(2):
            roots.advance_distributions(at=self.LATER + roots.CLOCKS)

        assert len(self.activations()) == 1
        rooted(waiting)
        assert waiting.state == State.ACTIVE

    def test_a_root_that_the_guardian_revoked_is_submitted_again_by_staff(self, waiting):
        roots.on_root_revoked(epoch=1, root=waiting.root, at=NOON)
        waiting.refresh_from_db()
        assert (waiting.state, waiting.activates_at) == (State.FAILED, None)
        assert "guardian revoked" in waiting.failure_reason

        roots.retry_distribution(distribution=waiting, acting_user=person("staff"), at=NOON)

        waiting.refresh_from_db()
        assert waiting.state == State.ROOT_SUBMITTED
        assert Intent.objects.filter(kind=Intent.Kind.PUBLISH).count() == 2

    def test_an_activation_that_failed_is_asked_for_again_by_staff(self, waiting):
        roots.advance_distributions(at=self.LATER + roots.CLOCKS)
        waiting.refresh_from_db()
        roots.on_intent_failed(
            intent_id=waiting.activation_intent_id, reason="TooEarly", at=self.LATER
        )

        roots.retry_distribution(distribution=waiting, acting_user=person("staff"), at=self.LATER)

        assert len(self.activations()) == 2
