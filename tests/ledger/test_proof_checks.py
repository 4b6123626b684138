"""A proof that somebody brings along: it fits, is of an earlier epoch, or is not theirs at all."""

import pytest
from django.urls import reverse

from ledger.models import Claim, Entry
from ledger.services.claims import claim_proof
from tests.ledger.books import FIRST, SECOND, activate, earn, link, publish

pytestmark = pytest.mark.django_db


@pytest.fixture
def earners(contributor, builder, deployed):
    for number, (one, address) in enumerate([(contributor, FIRST), (builder, SECOND)]):
        link(one, address)
        earn(one, 100 + number)
    activate(publish())


@pytest.fixture
def check(client):
    def post(address=FIRST, cumulative="100", proof=None):
        if proof is None:
            proof = ["0x" + node.hex() for node in claim_proof(FIRST).proof]
        body = {"address": address, "cumulative": cumulative, "proof": proof}
        return client.post(reverse("api-proof-check"), body, content_type="application/json")

    return post


def test_ones_own_proof_fits(earners, check):
    assert check().json() == {"fits": True}


@pytest.mark.parametrize("changes", [{"address": SECOND}, {"cumulative": "101"}, {"proof": []}])
def test_another_ones_proof_and_a_changed_amount_do_not(earners, check, changes):
    entries = Entry.objects.count()

    answer = check(**changes)

    assert (answer.status_code, answer.json()["code"]) == (400, "wrong_proof")
    assert (Entry.objects.count(), Claim.objects.count()) == (entries, 0)


def test_the_proof_of_an_earlier_epoch_names_both(earners, check, contributor):
    old = ["0x" + node.hex() for node in claim_proof(FIRST).proof]
    earn(contributor, 1, 7)
    activate(publish())

    answer = check(proof=old).json()

    assert answer["code"] == "expired_proof"
    assert "of epoch 1" in answer["message"]
    assert "epoch 2" in answer["message"]
    assert check(cumulative="101").json() == {"fits": True}


def test_before_any_root_is_in_force_there_is_nothing_to_prove(check):
    assert check(proof=[]).json()["code"] == "waiting_for_chain"


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "0x12"},
        {"cumulative": "-1"},
        {"cumulative": 100},
        {"cumulative": str(2**256)},
        {"proof": ["0x12"]},
        {"proof": ["0x" + "00" * 32] * 65},
    ],
)
def test_what_is_no_proof_at_all_is_refused(earners, check, changes):
    assert check(**changes).status_code == 400
