"""The reading API: wei as decimal strings, proofs for everybody, balances for their owner."""

import pytest
from django.urls import reverse

from accounts.ids import uuid7
from ledger.chain import distribution as trees
from ledger.models import Account
from ledger.selectors import account_of
from tests.ledger.books import (
    FIRST,
    OPEN,
    SECOND,
    activate,
    capture,
    earn,
    hold_for,
    link,
    paid,
    publish,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def active(contributor, builder, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    earn(builder, 7)
    link(builder, SECOND)
    distribution = publish()
    activate(distribution)
    return distribution


def test_an_entry_is_told_in_strings_of_wei(client, payer):
    entry = capture(hold_for(payer, 1000), 900)

    answer = client.get(reverse("api-entry", args=[entry.pk])).json()

    amounts = [posting["amount"] for posting in answer["postings"]]
    assert all(isinstance(amount, str) for amount in amounts)
    assert sum(map(int, amounts)) == 0
    assert answer["kind"] == "CAPTURE"


def test_a_spendable_balance_is_for_its_owner(client, payer, stranger):
    account = account_of(payer, Account.Kind.USER)
    addresses = [
        reverse("api-account", args=[account.pk]),
        reverse("api-account-postings", args=[account.pk]),
    ]
    assert [client.get(address).status_code for address in addresses] == [404, 404]
    client.force_login(stranger)
    assert [client.get(address).status_code for address in addresses] == [404, 404]


def test_an_entry_names_no_account_of_the_payer(client, payer):
    deposit = account_of(payer, Account.Kind.USER).postings.get().entry
    entry = capture(hold_for(payer, 1000), 900)
    private = {str(a.pk) for a in Account.objects.filter(kind__in=Account.PRIVATE)}
    addresses = [reverse("api-entry", args=[one.pk]) for one in (deposit, entry)]

    for address in addresses:
        told = client.get(address).content.decode()
        assert not [pk for pk in private if pk in told]
    client.force_login(payer)
    for address in addresses:
        assert [pk for pk in private if pk in client.get(address).content.decode()]


def test_the_owner_reads_an_account_and_its_postings(client, payer):
    account = account_of(payer, Account.Kind.USER)
    client.force_login(payer)

    told = client.get(reverse("api-account", args=[account.pk])).json()
    postings = client.get(reverse("api-account-postings", args=[account.pk])).json()

    assert (told["balance"], told["handle"]) == (str(10 * OPEN), "payer")
    assert [row["amount"] for row in postings["results"]] == [str(10 * OPEN)]
    missing = reverse("api-account-postings", args=[uuid7()])
    assert client.get(missing).status_code == 404


def test_anybody_gets_a_proof_that_leads_to_the_root(client, active):
    answer = client.get(reverse("api-payout", args=[FIRST.upper().replace("0X", "0x")])).json()

    leaf = trees.leaf(
        chain_id=answer["chain_id"],
        distributor=answer["distributor"],
        account=answer["address"],
        cumulative=int(answer["cumulative"]),
    )
    proof = [bytes.fromhex(node[2:]) for node in answer["proof"]]
    assert trees.verify(root=bytes.fromhex(answer["root"][2:]), leaf=leaf, proof=proof)
    assert (answer["claimable"], answer["code"]) == ("100", "")
    assert answer["call"]["to"] == active.distributor


def test_who_has_claimed_everything_is_told(client, active):
    paid()

    answer = client.get(reverse("api-payout", args=[FIRST])).json()

    assert (answer["claimable"], answer["claimed"], answer["proof"]) == ("0", "100", None)
    assert answer["code"] == "nothing_to_claim"


@pytest.mark.parametrize("address", ["0x" + "99" * 20, "rubbish", "0x"])
def test_an_address_that_was_never_paid_is_not_found(client, active, address):
    response = client.get(reverse("api-payout", args=[address]))

    assert response.status_code == 404
    assert response.json()["code"] == "unknown_account"


def test_distributions_are_listed(client, active):
    listed = client.get(reverse("api-distributions")).json()["results"]

    assert listed == [client.get(reverse("api-distribution", args=[active.pk])).json()]
    assert (listed[0]["amount"], listed[0]["state"]) == ("107", "ACTIVE")


@pytest.mark.parametrize("name", ["api-balance", "api-earnings"])
def test_a_stranger_gets_no_balance(client, name):
    assert client.get(reverse(name)).status_code in (401, 403)


def test_the_owner_gets_balance_and_earnings(client, payer, contributor, active):
    client.force_login(payer)
    hold_for(payer, OPEN)
    assert client.get(reverse("api-balance")).json() == {
        "balance": str(9 * OPEN),
        "held": str(OPEN),
        "under_way": "0",
        "owed": "0",
    }
    client.force_login(contributor)
    assert client.get(reverse("api-earnings")).json() == {
        "available": "0",
        "pending": "0",
        "claimable": "100",
        "claimed": "0",
        "received": "100",
    }


@pytest.mark.parametrize("name", ["api-distributions", "api-balance", "api-earnings"])
def test_nothing_is_written_by_the_api(client, payer, name):
    client.force_login(payer)

    assert client.post(reverse(name)).status_code == 405
