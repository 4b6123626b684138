"""Entries, accounts and distributions are public, but not who pays and what they have left."""

import hashlib

import pytest
from django.urls import reverse

from accounts import pages
from accounts.ids import uuid7
from ledger.models import Account, Distribution, Intent
from ledger.services import chain, roots
from ledger.services.holds import Refs
from tests.ledger.books import (
    FIRST,
    NOON,
    activate,
    capture,
    earn,
    hold_for,
    link,
    person,
    publish,
)

pytestmark = pytest.mark.django_db
PUBLIC = ["entry", "account", "distribution", "distribution_data", "intent"]


@pytest.fixture
def fee(payer):
    hold = hold_for(payer, 1000)
    return capture(hold, 900)


@pytest.fixture
def distribution(contributor, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    return publish()


def failed(distribution):
    roots.on_intent_failed(intent_id=distribution.funding_intent_id, reason="It reverted.", at=NOON)


def test_anybody_reads_an_entry_and_finds_no_address_of_a_person(client, fee, payer):
    page = client.get(pages.url("entry", fee.pk))

    assert page.status_code == 200
    assert page.context["total"] == 0
    assert payer.email not in page.content.decode()


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_others_see_that_somebody_paid_but_not_who(client, fee, payer, stranger, who):
    if who == "stranger":
        client.force_login(stranger)
    main = client.get(pages.url("entry", fee.pk)).content.decode().split("<main", 1)[1]

    assert '<span class="muted">payer</span>' in main
    for account in Account.objects.filter(owner_id=payer.pk):
        assert str(account.pk) not in main
        assert client.get(reverse("ledger:account", args=[account.pk])).status_code == 404


def test_an_entry_of_a_deposit_does_not_tell_whose_it_is(client, payer):
    account = Account.objects.get(kind=Account.Kind.USER, owner_id=payer.pk)
    deposit = account.postings.get().entry

    main = client.get(pages.url("entry", deposit.pk)).content.decode().split("<main", 1)[1]

    assert str(account.pk) not in main
    assert payer.handle not in main


@pytest.mark.parametrize("who", ["owner", "staff"])
def test_the_owner_and_staff_read_a_private_account(client, fee, payer, who):
    staff = person("clerk")
    staff.is_staff = True
    staff.save()
    client.force_login(payer if who == "owner" else staff)
    private = Account.objects.filter(kind__in=Account.PRIVATE, owner_id=payer.pk)
    assert {account.kind for account in private} == {"USER", "HOLD"}
    for account in private:
        page = client.get(pages.url("account", account.pk))

        assert page.context["posted"] == account.balance
        assert "EQUAL" in page.content.decode()
        assert str(account.pk) in client.get(pages.url("entry", fee.pk)).content.decode()


def test_what_has_no_public_name_has_no_link(client, payer, monkeypatch):
    secret, public = uuid7(), uuid7()
    monkeypatch.setitem(pages._builders, "model", lambda pk: f"/models/slug-of-{pk}/")
    monkeypatch.setitem(pages._namers, "model", lambda ids: {public: "Known"})
    for model in (secret, public):
        hold = hold_for(payer, 1000)
        entry = capture(hold, 900, refs=Refs(model=model, completion=hold.cause_id))

        told = client.get(pages.url("entry", entry.pk)).content.decode()

        assert (f"slug-of-{model}" in told) == (model == public)


def test_anybody_reads_who_earned(client, contributor):
    earn(contributor, 100)
    account = Account.objects.get(kind=Account.Kind.EARNINGS, owner_id=contributor.pk)

    page = client.get(pages.url("account", account.pk))

    assert (page.context["posted"], account.balance) == (100, 100)
    assert contributor.handle in page.content.decode()
    assert contributor.email not in page.content.decode()


def test_anybody_reads_a_distribution_and_its_file(client, distribution):
    page = client.get(pages.url("distribution", distribution.pk))
    assert distribution.root in page.content.decode()

    file = client.get(reverse("ledger:distribution_data", args=[distribution.pk]))

    data = b"".join(file.streaming_content)
    assert hashlib.sha256(data).hexdigest() == distribution.data_sha256
    assert distribution.pk in {
        d.pk for d in client.get(reverse("ledger:distributions")).context["page"]
    }


def test_anybody_follows_what_was_asked_of_the_chain(client, distribution):
    intent = Intent.objects.get(pk=distribution.funding_intent_id)
    shown = client.get(pages.url("intent", intent.pk)).content.decode()
    assert "NEW" in shown
    assert "fundDistributor(bytes32,uint256)" in shown
    assert pages.url("distribution", distribution.pk) in shown
    tx_hash, block = "0x" + "ab" * 32, "0x" + "cd" * 32
    Intent.objects.filter(pk=intent.pk).update(
        state="FINAL", nonce=1, tx_hash=tx_hash, block_number=12, block_hash=block
    )

    shown = client.get(pages.url("intent", intent.pk)).content.decode()

    assert f'data-copy="{tx_hash}"' in shown
    assert f'data-copy="{block}"' in shown
    assert f'href="{reverse("ledger:block", args=[12])}">12<' in shown
    assert "FINAL" in shown


def test_an_intent_of_the_faucet_does_not_tell_for_whom(client, payer, deployed, settings):
    settings.CHAIN_IS_LOCAL = True
    intent = chain.request_faucet(user=payer, amount=7, acting_user=payer, key="one", at=NOON)
    account = str(Account.objects.get(kind=Account.Kind.USER, owner_id=payer.pk).pk)

    shown = client.get(pages.url("intent", intent.pk)).content.decode()

    assert "deposit(bytes32)" in shown
    assert account not in shown
    assert account.replace("-", "") not in shown
    client.force_login(payer)
    assert account in client.get(pages.url("intent", intent.pk)).content.decode()


def test_a_distribution_without_a_tree_has_no_file(client, contributor):
    earn(contributor, 5)
    link(contributor, FIRST)
    draft = publish()

    assert client.get(reverse("ledger:distribution_data", args=[draft.pk])).status_code == 404
    assert (
        "waiting for a chain"
        in client.get(pages.url("distribution", draft.pk)).content.decode().lower()
    )


def test_staff_start_a_failed_distribution_again(client, distribution):
    failed(distribution)
    staff = person("staff")
    staff.is_staff = True
    staff.save()
    client.force_login(staff)
    assert (
        "Start it again" in client.get(pages.url("distribution", distribution.pk)).content.decode()
    )

    client.post(reverse("ledger:distribution_retry", args=[distribution.pk]))

    distribution.refresh_from_db()
    assert distribution.state == Distribution.State.FUNDING


def test_a_stranger_does_not(client, distribution, stranger):
    failed(distribution)
    client.force_login(stranger)

    response = client.post(reverse("ledger:distribution_retry", args=[distribution.pk]))

    distribution.refresh_from_db()
    assert response.status_code == 302
    assert distribution.state == Distribution.State.FAILED
    assert (
        "Start it again"
        not in client.get(pages.url("distribution", distribution.pk)).content.decode()
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_not_there_is_not_found(client, name):
    assert client.get(reverse(f"ledger:{name}", args=[uuid7()])).status_code == 404


@pytest.mark.parametrize("name", PUBLIC)
def test_the_wrong_method_is_refused(client, name):
    assert client.post(reverse(f"ledger:{name}", args=[uuid7()])).status_code == 405


def test_the_root_that_is_active_shows_when(client, distribution):
    activate(distribution)

    assert "Active since" in client.get(pages.url("distribution", distribution.pk)).content.decode()
