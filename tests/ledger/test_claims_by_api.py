"""A claim that we send is asked for by API, too: one's own wallet, once, at a known fee."""

import pytest

from ledger.models import Account, Claim
from ledger.services import relays
from tests.ledger.books import FIRST, OPEN, SECOND, activate, balance_of, earn, link, paid, publish

pytestmark = pytest.mark.django_db
PATH = "/api/v1/claims/"
FEE = relays.RELAY_GAS * 10**6


@pytest.fixture
def earner(contributor, settings, deployed):
    settings.RELAY_GAS_PRICE_WEI = 10**6
    link(contributor, FIRST)
    earn(contributor, OPEN)
    activate(publish())
    earn(contributor, OPEN, 2)
    return contributor


def ask(client, key="one", address=FIRST, maximum_fee=FEE):
    return client.post(
        PATH,
        {"address": address, "maximum_fee": str(maximum_fee)},
        content_type="application/json",
        headers={"Idempotency-Key": key} if key else {},
    )


def test_it_is_asked_for_once_however_often_it_is_sent(client, earner):
    client.force_login(earner)
    first, again = ask(client), ask(client)

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    told = first.json()
    assert (told["address"], told["amount"], told["is_relayed"]) == (FIRST, str(OPEN), True)
    assert (told["state"], told["truth"]) == ("REQUESTED", "RECORDED")
    assert Claim.objects.count() == 1
    assert balance_of(Account.Kind.RELAY) == FEE

    paid(OPEN, OPEN)
    told = client.get(f"{PATH}{told['id']}/").json()
    assert (told["state"], told["truth"]) == ("PAID", "FINAL")
    assert client.get(PATH).json()["results"] == [told]


def test_a_higher_fee_than_was_allowed_is_refused_and_nothing_is_done(client, earner):
    client.force_login(earner)
    answer = ask(client, maximum_fee=FEE - 1)
    assert answer.status_code == 400
    assert "more than the" in answer.json()["message"]
    assert not Claim.objects.exists()
    assert balance_of(Account.Kind.RELAY) == 0
    # Refused, so the same key serves for the amended request.
    assert ask(client).status_code == 202


@pytest.mark.parametrize(
    "changes",
    [{"address": SECOND}, {"address": "0x1"}, {"address": "x" * 43}, {"maximum_fee": "-1"}],
)
def test_what_cannot_be_claimed_is_refused(client, earner, changes):
    client.force_login(earner)
    assert ask(client, **changes).status_code == 400
    assert not Claim.objects.exists()


def test_without_a_key_nothing_is_asked_for(client, earner):
    client.force_login(earner)
    assert ask(client, key="").status_code == 400
    assert not Claim.objects.exists()


def test_a_second_claim_meanwhile_is_told_that_one_is_on_its_way(client, earner):
    client.force_login(earner)
    ask(client)
    second = ask(client, key="two")
    assert second.status_code == 400
    assert "on its way" in second.json()["message"]


def test_a_stranger_sees_and_claims_nothing_of_others(client, earner, stranger):
    client.force_login(earner)
    known = ask(client).json()["id"]
    client.logout()
    assert client.get(PATH).status_code in (401, 403)
    assert ask(client).status_code in (401, 403)
    client.force_login(stranger)
    assert client.get(PATH).json()["results"] == []
    assert client.get(f"{PATH}{known}/").status_code == 404
    assert ask(client, key="theirs").status_code == 400
    assert Claim.objects.count() == 1
