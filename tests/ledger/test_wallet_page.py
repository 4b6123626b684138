"""The wallet page: what can be spent, what is held, and how more comes in."""

import pytest
from django.urls import reverse

from accounts.ids import uuid7
from ledger.calldata import deposit
from ledger.models import Account, Intent
from tests.ledger.books import OPEN, balance_of, hold_for

pytestmark = pytest.mark.django_db


def ask(client, amount="5", key=None):
    body = {"amount": amount, "key": str(key or uuid7())}
    return client.post(reverse("ledger:faucet"), body, follow=True)


def test_it_shows_balance_and_holds(client, payer):
    hold_for(payer, 4 * OPEN)
    client.force_login(payer)

    page = client.get(reverse("ledger:wallet"))

    assert (page.context["balance"], page.context["held"]) == (6 * OPEN, 4 * OPEN)
    assert "PENDING" in page.content.decode()


def test_the_figures_can_be_asked_for_alone(client, payer):
    client.force_login(payer)

    part = client.get(reverse("ledger:wallet_figures")).content.decode()

    assert 'data-figure="balance">10<' in part
    assert "<html" not in part


def test_without_a_chain_open_is_granted_once_for_a_key(client, contributor):
    client.force_login(contributor)
    key = uuid7()

    ask(client, key=key)
    ask(client, key=key)

    assert balance_of(Account.Kind.USER, contributor.pk) == 5 * OPEN


def test_on_the_local_chain_the_faucet_deposits_through_the_gateway(client, contributor, deployed):
    client.force_login(contributor)

    page = ask(client)

    intent = Intent.objects.get()
    account = Account.objects.get(kind=Account.Kind.USER, owner_id=contributor.pk)
    assert (intent.kind, intent.value) == (Intent.Kind.FAUCET, 5 * OPEN)
    assert bytes(intent.data) == deposit(account.pk)
    assert f'id="intent-{intent.pk}"' in page.content.decode()
    assert client.get(reverse("ledger:intent_state", args=[intent.pk])).status_code == 200


def test_the_faucet_has_a_limit(client, contributor, deployed):
    client.force_login(contributor)

    page = ask(client, amount="1000.5")

    assert "at most 1000 OPEN" in page.content.decode()
    assert not Intent.objects.exists()


def test_on_another_chain_there_is_no_faucet(client, contributor, deployed, settings):
    settings.CHAIN_IS_LOCAL = False
    client.force_login(contributor)

    assert "Get OPEN" not in client.get(reverse("ledger:wallet")).content.decode()
    assert "Only the local chain has a faucet" in ask(client).content.decode()


def test_a_wallet_deposits_for_this_account(client, contributor, deployed):
    client.force_login(contributor)

    page = client.get(reverse("ledger:wallet"))

    account = Account.objects.get(kind=Account.Kind.USER, owner_id=contributor.pk)
    assert page.context["deposit"]["data"] == "0x" + deposit(account.pk).hex()
    assert page.context["deposit"]["data"] in page.content.decode()


@pytest.mark.parametrize("amount", ["", "0", "-5", "five", "1,5", "NaN"])
def test_an_amount_that_is_none_is_told(client, contributor, amount):
    client.force_login(contributor)

    assert "notice--bad" in ask(client, amount=amount).content.decode()
    assert balance_of(Account.Kind.USER, contributor.pk) == 0


def test_a_stranger_sees_no_deposit_of_others(client, contributor, stranger, deployed):
    client.force_login(contributor)
    ask(client)
    client.force_login(stranger)

    intent = Intent.objects.get()
    assert client.get(reverse("ledger:intent_state", args=[intent.pk])).status_code == 404
    assert str(intent.pk) not in client.get(reverse("ledger:wallet")).content.decode()
