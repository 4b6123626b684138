"""web3 sends raw transactions again by itself; ours must not: only the sender knows whether to."""

from __future__ import annotations

import pytest
from web3.providers.rpc.utils import REQUEST_RETRY_ALLOWLIST

from ledger.chain.client import ChainClient, UnreachableError
from tests.ledger.chain.faulty_node import FaultyNode

BYTES = b"\x02" + bytes(40)


@pytest.fixture
def node():
    with FaultyNode("http://127.0.0.1:1") as node:
        node.mode = "absent"  # it takes what is asked and hangs up
        yield node


def client(node: FaultyNode) -> ChainClient:
    return ChainClient(node.url, timeout=2.0, retries=3)


def test_web3_would_send_it_again() -> None:
    assert "eth_sendRawTransaction" in REQUEST_RETRY_ALLOWLIST


def test_a_raw_send_without_an_answer_goes_out_once(node) -> None:
    with pytest.raises(UnreachableError):
        client(node).send_raw(BYTES)
    assert node.requests == 1


def test_a_batch_of_raw_sends_without_an_answer_goes_out_once(node) -> None:
    answers = client(node).send_raws([("0x1", BYTES), ("0x2", BYTES)])
    assert [type(answer) for answer in answers] == [UnreachableError] * 2
    assert node.requests == 1


def test_what_only_reads_is_asked_again(node) -> None:
    with pytest.raises(UnreachableError):
        client(node).nonce("0x" + "11" * 20)
    assert node.requests == 3


@pytest.mark.parametrize("method", ["evm_mine", "anvil_setBalance", "evm_increaseTime"])
def test_what_changes_a_local_chain_is_asked_once(node, method) -> None:
    with pytest.raises(UnreachableError):
        client(node).rpc(method)
    assert node.requests == 1
