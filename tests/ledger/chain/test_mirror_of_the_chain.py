"""The mirror reads each block once, comes back from what went wrong, and never guesses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from django.utils import timezone

from ledger.chain.client import ChainClient, RpcError, UnreachableError
from ledger.chain.indexer import ForeignChainError, ReorganisedError
from ledger.models.chain import ChainBlock, ChainHead, ChainLog
from ledger.services.indexing import index_chain
from tests.chain_fixtures import ALICE, Chain, Worker

ACCOUNT = b"\2" * 32


def deposit(chain: Chain, amount: int) -> None:
    chain.send(ALICE, "Gateway", "deposit", ACCOUNT, value=amount)


def amounts() -> list[int]:
    logs = ChainLog.objects.filter(event="Deposited").order_by("block__number", "log_index")
    return [int(log.arguments["amount"]) for log in logs]


def test_blocks_hang_together_and_none_is_read_twice(worker: Worker) -> None:
    for amount in (1, 2, 3):
        deposit(worker.chain, amount)
        worker.index()
    blocks = list(ChainBlock.objects.order_by("number"))
    assert all(after.parent_hash == before.hash for before, after in pairwise(blocks))
    before = ChainLog.objects.count()
    worker.index()
    assert (amounts(), ChainLog.objects.count()) == ([1, 2, 3], before)


def test_a_node_that_does_not_answer_changes_nothing(worker: Worker) -> None:
    worker.index()
    dead = ChainClient("http://127.0.0.1:9", timeout=0.2, retries=1)
    with pytest.raises(UnreachableError):
        index_chain(
            client=dead, deployment=worker.chain.deployment, confirmations=2, at=timezone.now()
        )
    deposit(worker.chain, 5)
    worker.index()
    assert amounts() == [5]


def test_a_window_that_the_node_refuses_is_halved(worker: Worker, monkeypatch) -> None:
    worker.index()
    deposit(worker.chain, 1)
    worker.chain.client.rpc("anvil_mine", hex(900))
    real, asked = worker.chain.client.logs, []

    def narrow(first: int, last: int, addresses: list[str]):
        asked.append(last - first + 1)
        if last - first + 1 > 100:
            raise RpcError("eth_getLogs", -32005, "query returned more than 10000 results")
        return real(first, last, addresses)

    monkeypatch.setattr(worker.chain.client, "logs", narrow)
    for _ in range(12):
        worker.index()
    assert asked[:6] == [512, 256, 128, 64, 72, 81]
    assert max(asked[4:]) <= 115
    assert amounts() == [1]
    assert ChainHead.objects.get().number == worker.chain.client.block("latest").number


def test_a_block_that_changes_while_it_is_read_is_read_again(worker: Worker, monkeypatch) -> None:
    worker.index()
    deposit(worker.chain, 7)
    real = worker.chain.client.block

    def moved(block):
        found = real(block)
        if isinstance(block, int) and found and block > ChainHead.objects.get().number:
            return type(found)(**{**found.__dict__, "parent_hash": "0x" + "00" * 32})
        return found

    with monkeypatch.context() as patch:
        patch.setattr(worker.chain.client, "block", moved)
        with pytest.raises(ReorganisedError):
            worker.index()
    assert amounts() == []
    worker.index()
    assert amounts() == [7]


def test_another_chain_stops_the_mirror_and_says_why(worker: Worker, monkeypatch) -> None:
    deposit(worker.chain, 1)
    worker.index()
    real = worker.chain.client.block

    def foreign(block):
        found = real(block)
        return found and type(found)(**{**found.__dict__, "hash": "0x" + "ee" * 32})

    monkeypatch.setattr(worker.chain.client, "block", foreign)
    with pytest.raises(ForeignChainError):
        worker.index()
    assert "--reset" in ChainHead.objects.get().problem
    assert amounts() == [1]


@pytest.mark.usefixtures("late_finality")
@pytest.mark.parametrize("depth", [1, 3, 20, 60])
def test_a_reorganisation_of_any_depth_above_the_final_block_is_followed(
    worker: Worker, depth: int
) -> None:
    deposit(worker.chain, 1)
    worker.index()
    snapshot = worker.chain.client.rpc("evm_snapshot")
    for number in range(depth):
        deposit(worker.chain, 10 + number)
    worker.index()
    worker.chain.client.rpc("evm_revert", snapshot)
    worker.chain.warp(9)
    deposit(worker.chain, 2)
    worker.chain.mine(depth)
    worker.index()
    assert amounts() == [1, 2]
