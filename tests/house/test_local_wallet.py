"""On the local chain, and only there, a signed-in person can sign with a development account."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import User, Wallet
from ledger.chain.local import DEV_ADDRESSES, Anvil, ensure_anvil

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    from django.conf import settings

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cache = Path(settings.DATA_DIR) / "cache"
    with Anvil(ensure_anvil(cache), port, block_time=1) as anvil:
        yield anvil


@pytest.fixture(autouse=True)
def local_chain(settings: Settings, chain: Anvil) -> None:
    settings.CHAIN_ENABLED = True
    settings.CHAIN_IS_LOCAL = True
    settings.CHAIN_RPC_URL = chain.url


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@openledger.test", "correct horse battery")


def ask(client: Client, method: str, *params: Any) -> Any:
    body = json.dumps({"method": method, "params": list(params)})
    return client.post("/local-chain/rpc/", body, content_type="application/json")


def test_a_stranger_is_sent_to_sign_in(client: Client) -> None:
    assert ask(client, "eth_chainId").status_code == 302


def test_it_is_absent_on_any_other_chain(client: Client, ada: User, settings: Settings) -> None:
    client.force_login(ada)
    settings.CHAIN_IS_LOCAL = False
    assert ask(client, "eth_chainId").status_code == 404


def test_reading_reaches_the_node(client: Client, ada: User) -> None:
    client.force_login(ada)
    assert ask(client, "eth_chainId").json() == {"result": hex(31337)}
    assert client.get("/local-chain/rpc/").status_code == 405


def test_each_person_signs_with_an_account_of_their_own(client: Client, ada: User) -> None:
    client.force_login(ada)
    first = ask(client, "eth_requestAccounts").json()["result"][0]
    assert first not in DEV_ADDRESSES[:3]
    Wallet.objects.create(user=ada, address=first)
    ben = User.objects.create_user("ben@openledger.test", "correct horse battery")
    client.force_login(ben)
    assert ask(client, "eth_accounts").json()["result"][0] != first
    client.force_login(ada)
    assert ask(client, "eth_accounts").json()["result"] == [first]


def test_nobody_sends_from_an_account_that_is_not_theirs(client: Client, ada: User) -> None:
    client.force_login(ada)
    mine = ask(client, "eth_accounts").json()["result"][0]
    before = int(ask(client, "eth_getBalance", DEV_ADDRESSES[0], "latest").json()["result"], 16)
    sent = ask(
        client,
        "eth_sendTransaction",
        {"from": DEV_ADDRESSES[0], "to": DEV_ADDRESSES[1], "value": "0x1"},
    ).json()
    transaction = ask(client, "eth_getTransactionByHash", sent["result"]).json()["result"]
    assert transaction["from"].lower() == mine.lower()
    after = int(ask(client, "eth_getBalance", DEV_ADDRESSES[0], "latest").json()["result"], 16)
    assert after == before


@pytest.mark.parametrize(
    "method", ["anvil_setBalance", "evm_mine", "debug_traceCall", "eth_sign", "personal_sign", ""]
)
def test_other_methods_are_not_offered(client: Client, ada: User, method: str) -> None:
    client.force_login(ada)
    assert ask(client, method).json()["error"]["code"] == 4200


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"method": 1}', "[" * 50_000, '{"method": "x", "params": 3}']
)
def test_garbage_is_refused(client: Client, ada: User, body: str) -> None:
    client.force_login(ada)
    reply = client.post("/local-chain/rpc/", body, content_type="application/json")
    assert reply.status_code == 404


def test_a_silent_node_is_told_in_a_sentence(client: Client, ada: User, settings: Settings) -> None:
    client.force_login(ada)
    settings.CHAIN_RPC_URL = "http://127.0.0.1:9"
    assert (
        ask(client, "eth_chainId").json()["error"]["message"] == "The local chain does not answer."
    )
    assert ask(client, "eth_accounts").status_code == 403
