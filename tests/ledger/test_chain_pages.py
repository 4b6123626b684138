"""Transactions, blocks and addresses: what is ours in them, for strangers too, without secrets."""

import pytest
from django.urls import reverse

from ledger.models import Account
from ledger.services.deposits import credit_deposit
from ledger.services.gone import remember_gone
from ledger.services.opening import account_for
from tests.ledger import mirror
from tests.ledger.books import FIRST, NOON, activate, earn, link, paid, publish
from tests.ledger.conftest import CONTRACTS

pytestmark = pytest.mark.django_db
TX, OTHER = mirror.word(0x7C), mirror.word(0x7D)


def page(client, name, wanted):
    return client.get(reverse(f"ledger:{name}", args=[wanted]))


def text(response):
    assert response.status_code == 200
    return response.content.decode().split("<main", 1)[1]


def api(client, name, wanted):
    return client.get(reverse(f"api-{name}", args=[wanted]))


@pytest.fixture
def deposit(payer):
    """A deposit in block 10 of the payer's, with another event before it in the transaction."""
    account = account_for(Account.Kind.USER, payer.pk)
    inside = mirror.block(10)
    mirror.log(inside, TX, event="PauseChanged", index=4, paused=True)
    mirror.log(inside, TX, index=5, accountId=mirror.account_word(account), amount="5")
    mirror.head(12, final=11)
    return credit_deposit(
        account_id=account.pk, amount=5, chain_id=31337, tx_hash=TX, log_index=1, at=NOON
    )


def test_a_transaction_shows_its_events_and_the_entries_that_they_caused(client, deposit):
    shown = text(page(client, "transaction", TX))

    assert "Deposited" in shown
    assert reverse("ledger:entry", args=[deposit.pk]) in shown
    assert 'data-truth="FINAL"' in shown
    assert "3 confirmations" in shown
    assert reverse("ledger:block", args=[10]) in shown
    told = api(client, "transaction", TX.upper().replace("0X", "0x")).json()
    assert [event["entries"] for event in told["events"]] == [[], [str(deposit.pk)]]
    assert (told["truth"]["state"], told["truth"]["confirmations"]) == ("FINAL", 3)


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_nobody_else_learns_whose_account_a_deposit_names(client, deposit, payer, stranger, who):
    account = account_for(Account.Kind.USER, payer.pk)
    if who == "stranger":
        client.force_login(stranger)
    secrets = (mirror.account_word(account), str(account.pk), account.pk.hex, payer.handle)
    for name, wanted in (("transaction", TX), ("block", "10")):
        for answer in (page(client, name, wanted), api(client, name, wanted)):
            shown = answer.content.decode().split("<main", 1)[-1]
            assert not [secret for secret in secrets if secret in shown]
    client.force_login(payer)
    assert mirror.account_word(account) in text(page(client, "transaction", TX))


def test_a_transaction_that_another_took_the_place_of_says_so(client):
    row = mirror.intent(state="FINAL", nonce=1, tx_hash=OTHER, block_number=3)
    mirror.attempt(row, TX)
    mirror.attempt(row, OTHER)

    replaced = text(page(client, "transaction", TX))

    assert "another transaction with the same nonce" in replaced
    assert reverse("ledger:intent", args=[row.pk]) in replaced
    assert api(client, "transaction", TX).json()["replaced"] is True
    assert 'data-truth="FINAL"' in text(page(client, "transaction", OTHER))
    assert text(page(client, "intent", row.pk)).count("CURRENT") == 1


def test_a_block_is_found_by_number_and_by_hash(client, deposit):
    number, digest = "10", mirror.word(10 + 0xB10C0000)

    for wanted in (number, digest, digest.upper().replace("0X", "0x")):
        shown = text(page(client, "block", wanted))
        assert "Deposited" in shown
        assert "which is final" in shown
    assert api(client, "block", number).json()["hash"] == digest


def test_a_block_that_a_reorganisation_took_is_told_as_gone(client):
    old = mirror.block(20, hash_number=0x01D)
    remember_gone(blocks=[old], at=NOON)
    old.delete()
    mirror.block(20, hash_number=0x2E3)

    shown = text(page(client, "block", mirror.word(0x01D)))

    assert "Gone in a reorganisation" in shown
    assert api(client, "block", mirror.word(0x01D)).json()["gone"] is True
    assert api(client, "block", "20").json()["hash"] == mirror.word(0x2E3)


def test_an_address_shows_what_it_was_paid_and_whose_it_is(client, contributor, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    activate(publish())
    claim = paid(tx_hash=TX)

    shown = text(page(client, "address", FIRST.upper().replace("0X", "0x")))

    assert contributor.handle in shown
    assert reverse("ledger:entry", args=[claim.entry_id]) in shown
    told = api(client, "address", FIRST).json()
    assert (told["holder"], told["published"], told["claimed"]) == ("contributor", "100", "100")


def test_a_contract_of_ours_is_named(client, deployed):
    assert "Contract Gateway" in text(page(client, "address", CONTRACTS["Gateway"]))


def test_hashes_link_to_the_explorer_of_the_setting(client, deposit, settings):
    assert "explorer.test" not in text(page(client, "transaction", TX))
    settings.CHAIN_EXPLORER_URL = "https://explorer.test/"

    shown = text(page(client, "transaction", TX))

    assert f'href="https://explorer.test/tx/{TX}"' in shown
    assert f'href="https://explorer.test/block/{mirror.word(10 + 0xB10C0000)}"' in shown


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("transaction", TX),
        ("transaction", "rubbish"),
        ("block", "99"),
        ("block", "9" * 30),
        ("block", "-1"),
        ("block", mirror.word(1)),
        ("address", FIRST),
        ("address", "0x12"),
    ],
)
def test_what_is_not_ours_is_not_found(client, name, wanted):
    assert page(client, name, wanted).status_code == 404
    assert api(client, name, wanted).status_code == 404
    assert client.post(reverse(f"ledger:{name}", args=[wanted])).status_code == 405
    assert client.post(reverse(f"api-{name}", args=[wanted])).status_code in (403, 405)


def test_intents_are_listed_by_kind(client):
    row = mirror.intent(state="SEEN", nonce=1, tx_hash=TX)
    mirror.intent("two", kind="FUND")

    listed = client.get(reverse("api-intents"), {"kind": "ANCHOR"}).json()["results"]

    assert [one["id"] for one in listed] == [str(row.pk)]
    assert listed[0]["truth"]["state"] == "SUBMITTED"
    assert api(client, "intent", row.pk).json() == listed[0]


@pytest.mark.parametrize(
    ("text_given", "found"),
    [
        (TX, ("transaction", TX)),
        (TX.removeprefix("0x").upper(), ("transaction", TX)),
        ("10", ("block", "10")),
        ("#10", ("block", "10")),
        (mirror.word(10 + 0xB10C0000), ("block", mirror.word(10 + 0xB10C0000))),
    ],
)
def test_the_search_opens_what_it_is_given(client, deposit, text_given, found):
    answer = client.get("/search/", {"q": text_given})

    assert answer.headers["Location"] == reverse(f"ledger:{found[0]}", args=[found[1]])


def test_the_search_opens_an_address_and_a_person(client, contributor):
    link(contributor, FIRST)

    opened = client.get("/search/", {"q": FIRST}).headers["Location"]
    assert opened == reverse("ledger:address", args=[FIRST])
    person = client.get("/search/", {"q": "@Contributor"}).headers["Location"]
    assert person == reverse("people:person", args=["contributor"])
    # A word that happens to be a handle is searched for, and the person is among what is found.
    assert person in client.get("/search/", {"q": "contributor"}).content.decode()
