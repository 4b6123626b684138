"""Records that were put into a prompt: stated in the receipt, paid to the wei, computed again."""

import copy
from uuid import UUID

import pytest
from django.contrib.auth.models import AnonymousUser
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution import crediting
from attribution.models import Attribution, Receipt
from attribution.selectors import bundle_of, view_of
from attribution.services.log import sequence
from attribution.translog import money
from attribution.translog.verify import verify
from attribution.verification import verify_receipt
from attribution.workers import attribute
from ledger.models import Posting
from tests.attribution.world import NOON

MODEL = UUID(int=9)
REWARD = 50_000_000


def group(contributor: int, datanet: int = 1) -> str:
    return f"{UUID(int=contributor)}|{UUID(int=datanet)}|{UUID(int=7)}"


def test_the_reward_goes_by_records_and_the_rest_by_influence():
    by_influence = crediting.credit(
        influences={group(1): 3, group(2): 1}, counts={}, model_id=MODEL
    )
    stated = {"reward_ppb": REWARD, "groups": {group(2): 1, group(3): 1}}
    rewarded = crediting.reward(by_influence, stated, MODEL)
    parts = {one.owner_id.int: one.share_ppb for one in rewarded.credits}
    assert parts == {1: 712_500_000, 2: 262_500_000, 3: 25_000_000}
    assert rewarded.shares == by_influence.shares


def test_without_influence_the_treasuries_keep_what_the_reward_leaves():
    nobody = crediting.credit(influences={group(1): -1}, counts={group(1): 4}, model_id=MODEL)
    rewarded = crediting.reward(nobody, {"reward_ppb": REWARD, "groups": {group(2): 1}}, MODEL)
    assert [(one.kind, one.share_ppb) for one in rewarded.credits] == [
        ("contributor", REWARD),
        ("treasury", 10**9 - REWARD),
    ]


people = st.dictionaries(st.integers(1, 6).map(group), st.integers(-5, 10**30), max_size=6)
retrieved = st.dictionaries(st.integers(1, 6).map(group), st.integers(1, 4), min_size=1)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(people, retrieved, st.integers(0, 500_000_000))
def test_the_offline_verifier_comes_to_the_same_parts(influences, groups, part):
    counts = dict.fromkeys(influences, 1)
    stated = {"reward_ppb": part, "groups": groups}
    credited = crediting.credit(influences=influences, counts=counts, model_id=MODEL)
    rewarded = crediting.reward(credited, stated, MODEL)
    body = {
        "retrieval": stated,
        "shares": credited.shares,
        "influence": {"groups": influences, "records": counts},
    }
    expected = money._expected_credits(body, str(MODEL))
    assert {one.key: one.share_ppb for one in rewarded.credits} == expected
    if rewarded.credits:
        assert sum(expected.values()) == 10**9


@pytest.fixture
def receipt(indexed) -> Receipt:
    """Of an answer that was given one of Alice's records and one of Bob's to read."""
    wish = indexed.ask()
    records = [indexed.records[3], indexed.records[15]]
    Attribution.objects.filter(pk=wish.pk).update(
        retrieval={
            "method": {"method": "nearest-record", "version": 1},
            "reward_ppb": REWARD,
            "records": [
                {
                    "record": str(one.pk),
                    "group": f"{one.contributor_id}|{one.datanet_id}|{indexed.version.pk}",
                    "distance": "0.250000",
                }
                for one in records
            ],
        }
    )
    attribute(wish.pk)
    sequence(at=NOON)
    return Receipt.objects.get(attribution=wish)


@pytest.mark.django_db
def test_a_receipt_states_and_pays_them_and_verifies(indexed, receipt):
    assert receipt.public["retrieval"]["reward_ppb"] == REWARD
    assert len(receipt.public["retrieval"]["groups"]) == 2
    assert str(indexed.records[3].pk) not in str(receipt.public)
    assert [one["record"] for one in receipt.private["retrieved"]] == [
        str(indexed.records[3].pk),
        str(indexed.records[15].pk),
    ]
    paid = Posting.objects.filter(entry=receipt.entry_id, amount__lt=0)
    assert -sum(one.amount for one in paid) == receipt.amount
    half = receipt.amount * REWARD // 10**9 // 2
    for person in (indexed.alice, indexed.bob):
        share = receipt.shares.get(contributor=person)
        assert share.amount >= half
    assert verify_receipt(receipt).holds
    assert verify(bundle_of(receipt)).holds


@pytest.mark.django_db
@pytest.mark.parametrize("change", ["reward", "group", "dropped"])
def test_a_changed_retrieval_is_found(receipt, change):
    bundle = copy.deepcopy(bundle_of(receipt))
    stated = bundle["receipt"]["retrieval"]
    if change == "reward":
        stated["reward_ppb"] += 1_000
    elif change == "group":
        stated["groups"][next(iter(stated["groups"]))] += 1
    else:
        bundle["receipt"]["retrieval"] = None
    with pytest.raises(money.MoneyError):
        money.check_credits(bundle["receipt"])
    assert not verify(bundle).holds


@pytest.mark.django_db
def test_the_parties_see_the_records_cited_and_others_do_not(client, indexed, receipt):
    assert view_of(receipt, AnonymousUser()).retrieved == []
    assert [one.number for one in view_of(receipt, indexed.payer).retrieved] == [1, 2]
    address = reverse("attribution:receipt", args=[receipt.pk])
    assert "Records that it was given to read" not in client.get(address).content.decode()
    client.force_login(indexed.payer)
    page = client.get(address).content.decode()
    assert "[2]" in page
    assert indexed.records[3].get_absolute_url() in page
    panel = client.get(reverse("attribution:panel", args=[receipt.completion_id]))
    assert "Records that it was given to read" in panel.content.decode()
