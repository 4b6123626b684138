"""OPEN comes in by API: the Gateway's call for a wallet, and the faucet, once per key."""

from django.test import Client

from accounts.models import User
from ledger.selectors import balance

PATH = "/api/v1/deposits/"
KEY = "01a1fd34-c049-7713-bdab-e177ab3d1c1f"


def test_a_stranger_is_refused(client: Client, db):
    assert client.get(PATH).status_code in (401, 403)
    assert client.post(PATH, {}, content_type="application/json").status_code in (401, 403)


def test_without_a_chain_the_same_key_gives_once(client: Client, payer: User, settings):
    settings.CHAIN_ENABLED = False
    client.force_login(payer)
    before = balance(payer)
    for _ in range(2):
        given = client.post(
            PATH,
            {"amount": str(10**18)},
            content_type="application/json",
            headers={"Idempotency-Key": KEY},
        )
        assert given.status_code == 202
    assert balance(payer) == before + 10**18
    assert client.get(PATH).json() == {"call": None, "chain": None}


def test_what_is_no_amount_is_refused(client: Client, payer: User, settings):
    settings.CHAIN_ENABLED = False
    client.force_login(payer)
    for amount in ("0", "-1", 1.5, "x", None):
        answer = client.post(
            PATH,
            {"amount": amount},
            content_type="application/json",
            headers={"Idempotency-Key": KEY},
        )
        assert answer.status_code == 400
        assert "amount" in answer.content.decode()
