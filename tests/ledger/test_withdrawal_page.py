"""Withdrawing by page and API: one's own money, to one's own wallet, once per key."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.ids import uuid7
from ledger.models import Account, Withdrawal
from ledger.services import payouts
from ledger.services.deposits import undo_deposit
from tests.ledger.books import FIRST, NOON, OPEN, SECOND, balance_of, hold_for, link

pytestmark = pytest.mark.django_db
API = "/api/v1/withdrawals/"


@pytest.fixture
def holder(client, payer, deployed):
    link(payer, FIRST)
    client.force_login(payer)
    return payer


def ask(client, amount="2", **changes):
    body = {"amount": amount, "source": "USER", "address": FIRST, "key": str(uuid7())}
    return client.post(reverse("ledger:withdraw"), body | changes, follow=True)


def order(client, key="k", **changes):
    body = {"amount": str(OPEN), "account_kind": "USER", "address": FIRST}
    return client.post(
        API, body | changes, content_type="application/json", headers={"Idempotency-Key": key}
    )


def test_it_withdraws_and_shows_how_far_that_is(client, holder):
    page = ask(client).content.decode()

    withdrawal = Withdrawal.objects.get()
    assert (withdrawal.user, withdrawal.amount) == (holder, 2 * OPEN)
    assert "2 OPEN are on their way to your wallet." in page
    assert f'id="withdrawal-{withdrawal.pk}"' in page
    assert 'data-figure="under-way">2<' in page
    part = client.get(reverse("ledger:withdrawal_state", args=[withdrawal.pk])).content.decode()
    assert 'data-truth="RECORDED"' in part


def test_the_same_form_sent_twice_withdraws_once(client, holder):
    key = str(uuid7())
    for _ in range(2):
        ask(client, key=key)
    assert Withdrawal.objects.count() == 1


@pytest.mark.parametrize(
    "changes",
    [{"amount": "0"}, {"amount": "-1"}, {"amount": "11"}, {"address": SECOND}, {"source": "HOLD"}],
)
def test_what_is_refused_is_said_and_moves_nothing(client, holder, changes):
    page = ask(client, **changes)
    assert [message.level_tag for message in page.context["messages"]] == ["error"]
    assert not Withdrawal.objects.exists()
    assert balance_of(Account.Kind.USER, holder.pk) == 10 * OPEN


def test_without_a_wallet_it_says_what_to_do(client, payer, deployed):
    client.force_login(payer)
    page = client.get(reverse("ledger:wallet")).content.decode()
    assert "Link a wallet first" in page


def test_without_a_chain_there_is_no_such_part(client, payer):
    client.force_login(payer)
    assert 'id="withdraw"' not in client.get(reverse("ledger:wallet")).content.decode()


def test_what_came_back_says_why(client, holder):
    ask(client)
    payouts.advance_withdrawals(at=NOON)
    withdrawal = Withdrawal.objects.get()
    payouts.on_refused(
        batch_id=withdrawal.batch_id,
        place=0,
        address=FIRST,
        amount=2 * OPEN,
        tx_hash="0x1",
        at=NOON,
    )
    page = client.get(reverse("ledger:wallet")).content.decode()
    assert "does not take plain payments" in page
    assert "The money is back with you." in page


def test_strangers_see_and_do_nothing(client, holder, stranger):
    ask(client)
    withdrawal = Withdrawal.objects.get()
    state = reverse("ledger:withdrawal_state", args=[withdrawal.pk])
    other, nobody = Client(), Client()
    other.force_login(stranger)

    assert other.get(state).status_code == 404
    assert nobody.get(state).status_code == 302
    assert nobody.post(reverse("ledger:withdraw")).status_code == 302
    assert client.get(reverse("ledger:withdraw")).status_code == 405
    assert other.get(f"{API}{withdrawal.pk}/").status_code == 404
    assert other.get(API).json()["results"] == []
    assert nobody.get(API).status_code in (401, 403)
    assert order(nobody).status_code in (401, 403)


def test_by_api_it_is_carried_out_once_for_a_key(client, holder):
    first, again = order(client), order(client)

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert Withdrawal.objects.count() == 1
    shown = client.get(f"{API}{first.json()['id']}/").json()
    assert (shown["amount"], shown["state"], shown["truth"]) == (str(OPEN), "REQUESTED", "RECORDED")
    assert order(client, amount=str(2 * OPEN)).status_code == 422
    assert client.get("/api/v1/balance/").json()["under_way"] == str(OPEN)


def test_by_api_a_refusal_has_a_code(client, holder):
    answer = order(client, address=SECOND)
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_account")
    assert order(client, amount="1.5", key="b").status_code == 400
    assert not Withdrawal.objects.exists()


def test_what_is_owed_stands_on_the_wallet_page(client, holder):
    hold_for(holder, 4 * OPEN)
    deposit = holder_deposit(holder)
    undo_deposit(chain_id=31337, tx_hash=deposit.tx_hash, log_index=0, at=NOON)

    page = client.get(reverse("ledger:wallet")).content.decode()

    assert 'data-figure="owed">4 OPEN<' in page
    assert ask(client).context["messages"]
    assert not Withdrawal.objects.exists()
    assert client.get("/api/v1/balance/").json()["owed"] == str(4 * OPEN)


def holder_deposit(user):
    return Account.objects.get(kind=Account.Kind.USER, owner_id=user.pk).deposits.get()
