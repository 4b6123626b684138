"""A node that says nonsense, too little, too late or nothing: nothing wrong is ever booked.

Staff hear of it where it lasts; once the node is well, all is read as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEvent, Notification
from ledger.chain.client import ChainClient, ChainError, RpcError, UnreachableError
from ledger.chain.sender import SenderSettings
from ledger.models import Account, Entry, Intent
from ledger.models.chain import ChainHead, ChainLog
from ledger.services.chain import request_anchor
from ledger.services.indexing import index_chain
from ledger.services.opening import account_for
from ledger.services.sending import send_step
from tests.chain_fixtures import ALICE, Worker
from tests.ledger.books import balance_of, person
from tests.ledger.chain.faulty_node import FaultyNode

BLOCK, LOGS, RECEIPTS = "eth_getBlockByNumber", "eth_getLogs", "eth_getBlockReceipts"
Change = Callable[[Any], Any]
OTHER = "0x" + "77" * 32


@pytest.fixture
def node(worker: Worker) -> Iterator[FaultyNode]:
    with FaultyNode(worker.chain.url) as node:
        yield node


def index(worker: Worker, node: FaultyNode, at: datetime | None = None) -> Any:
    return index_chain(
        client=ChainClient(node.url, timeout=0.3 if node.mode == "slow" else 10, retries=1),
        deployment=worker.chain.deployment,
        confirmations=2,
        at=at or timezone.now(),
    )


def of(method: str, change: Change, *, tag: str = "") -> Callable[[str, list[Any], Any], Any]:
    """Change what `method` gives: of blocks those that are new, or the one by a tag."""

    def twist(called: str, parameters: list[Any], answer: dict[str, Any]) -> Any:
        if called != method or answer.get("result") is None:
            return answer
        if method == BLOCK:
            asked = str(parameters[0])
            if asked != tag if tag else int(answer["result"]["number"], 16) <= twist.read:  # type: ignore[attr-defined]
                return answer
        return answer | {"result": change(answer["result"])}

    return twist


def first_log(**changes: Change) -> Change:
    def change(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not logs:
            return logs
        return [logs[0] | {key: made(logs[0][key]) for key, made in changes.items()}, *logs[1:]]

    return change


def field(name: str, value: Change) -> Change:
    return lambda block: block | {name: value(block[name])}


def refused(called: str, parameters: list[Any], answer: dict[str, Any]) -> Any:
    if called != LOGS:
        return answer
    error = {"code": -32005, "message": "query returned more than 10000 results"}
    return {"jsonrpc": "2.0", "id": answer["id"], "error": error}


LIES = {
    "a block with another parent": of(BLOCK, field("parentHash", lambda _: OTHER)),
    "a block of another height": of(BLOCK, field("number", lambda n: hex(int(n, 16) + 1))),
    "a hash that is none": of(BLOCK, field("hash", lambda _: "0x12")),
    "a block without a number": of(BLOCK, lambda block: {"hash": block["hash"]}),
    "a final block above the latest": of(
        BLOCK, field("number", lambda _: hex(10**9)), tag="finalized"
    ),
    "a final block of another chain": of(BLOCK, field("hash", lambda _: OTHER), tag="finalized"),
    "a safe block of another chain": of(BLOCK, field("hash", lambda _: OTHER), tag="safe"),
    "events of another block": of(LOGS, first_log(blockHash=lambda _: OTHER)),
    "events of another contract": of(LOGS, first_log(address=lambda _: "0x" + "77" * 20)),
    "an event of a block that is gone": of(LOGS, first_log(removed=lambda _: True)),
    "an event twice": of(LOGS, lambda logs: logs[:1] + logs),
    "no event where there are some": of(LOGS, lambda _: []),
    "some of the events": of(LOGS, lambda logs: logs[:-1]),
    "another amount": of(LOGS, first_log(data=lambda data: data[:-1] + "9")),
    "an event whose data is cut off": of(LOGS, first_log(data=lambda data: data[:-4])),
    "an event whose topics are cut off": of(LOGS, first_log(topics=lambda topics: topics[:1])),
    "an object for a list": of(LOGS, lambda logs: {"logs": logs}),
    "a list of words": of(LOGS, lambda _: ["never"]),
    "receipts that are left out": of(RECEIPTS, lambda receipts: receipts[:-1]),
    "receipts of another block": of(
        RECEIPTS,
        lambda receipts: [
            one | {"logs": [log | {"blockHash": OTHER} for log in one["logs"]]} for one in receipts
        ],
    ),
    "a refusal": refused,
    "a connection that is cut": lambda called, _, answer: None if called == LOGS else answer,
}


@pytest.mark.parametrize("lie", LIES)
def test_nothing_is_booked_of_a_lie_and_everything_once_it_ends(
    worker: Worker, node: FaultyNode, lie: str
) -> None:
    payer = person("payer")
    account = account_for(Account.Kind.USER, payer.pk)
    worker.index()
    before = ChainHead.objects.get()
    for amount in (7, 11):
        word = account.pk.bytes.rjust(32, b"\0")
        worker.chain.send(ALICE, "Gateway", "deposit", word, value=amount)
    worker.chain.mine(3)

    node.twist = LIES[lie]
    node.twist.read = before.number  # type: ignore[attr-defined]
    with pytest.raises(ChainError):
        index(worker, node)

    assert not Entry.objects.exists()
    for log in ChainLog.objects.filter(event="Deposited"):
        assert int(log.arguments["amount"]) in (7, 11)
    after = ChainHead.objects.get()
    assert (after.safe_number, after.final_number) == (before.safe_number, before.final_number)
    assert after.trouble
    assert after.problem == ""

    node.twist = None
    index(worker, node)

    assert balance_of(Account.Kind.USER, payer.pk) == 18
    assert ChainLog.objects.filter(event="Deposited").count() == 2
    assert ChainHead.objects.get().trouble == ""


@pytest.mark.parametrize("mode", ["absent", "garbage", "slow", "stale"])
def test_staff_hear_once_of_a_node_that_stays_away_and_it_ends_by_itself(
    worker: Worker, node: FaultyNode, mode: str, client: Any, settings: Any
) -> None:
    # A local node may come back without its last blocks; this one is none.
    settings.CHAIN_IS_LOCAL = False
    staff = person("staff")
    staff.is_staff = True
    staff.save()
    worker.run(3)
    if mode == "stale":
        node.freeze()
        worker.run(3)
    node.mode, node.slowness = mode, 0.6
    before = ChainHead.objects.get()
    noon = timezone.now()

    for seconds in (0, 30, 61, 90):
        try:
            index(worker, node, noon + timedelta(seconds=seconds))
        except UnreachableError:
            assert mode != "stale"
        told = Notification.objects.filter(user=staff, kind="ledger.alarm").count()
        assert told == (seconds > 60)

    after = ChainHead.objects.get()
    assert (after.number, after.hash, after.final_number) == (
        before.number, before.hash, before.final_number,
    )  # fmt: skip
    assert "cannot be read" in client.get("/status/").content.decode()
    assert after.trouble

    node.well()
    worker.chain.mine()
    index(worker, node, noon + timedelta(seconds=120))

    assert ChainHead.objects.get().told == ""
    assert ChainHead.objects.get().number > before.number
    verbs = AuditEvent.objects.filter(verb__startswith="ledger.mirror_alarm").order_by("id")
    assert list(verbs.values_list("verb", flat=True)) == [
        "ledger.mirror_alarm", "ledger.mirror_alarm_over",
    ]  # fmt: skip


def test_no_message_holds_the_key_that_stands_in_the_nodes_address() -> None:
    dead = ChainClient("http://user:word@127.0.0.1:9/v2/s3cret?key=t0ken", timeout=0.2, retries=1)
    with pytest.raises(UnreachableError) as failure:
        dead.block("latest")
    for secret in ("s3cret", "t0ken", "word"):
        assert secret not in str(failure.value)
    assert "eth_getBlockByNumber" in str(failure.value)


def test_a_node_that_makes_no_blocks_is_told(worker: Worker, node: FaultyNode) -> None:
    worker.index()
    later = timezone.now() + timedelta(hours=3)
    index(worker, node, later)
    assert "minutes old" in ChainHead.objects.get().trouble


def test_a_window_that_takes_too_long_is_halved_for_the_next_step(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.index()
    worker.chain.client.rpc("anvil_mine", hex(700))
    real, asked = worker.chain.client.logs, []

    def slow(first: int, last: int, addresses: list[str]) -> Any:
        asked.append(last - first + 1)
        if asked[-1] > 200:
            raise UnreachableError("eth_getLogs: read timed out")
        return real(first, last, addresses)

    monkeypatch.setattr(worker.chain.client, "logs", slow)
    for _ in range(2):
        with pytest.raises(UnreachableError):
            worker.index()
    worker.index()

    assert asked[:4] == [512, 256, 128, 144]
    latest = worker.chain.client.block("latest")
    assert latest is not None
    assert ChainHead.objects.get().number == latest.number
    assert ChainHead.objects.get().window > 128


def test_a_node_that_refuses_even_one_block_is_an_error(worker: Worker, node: FaultyNode) -> None:
    worker.index()
    ChainHead.objects.update(window=1)
    worker.chain.client.rpc("anvil_mine", hex(100))
    node.twist = refused
    with pytest.raises(RpcError, match="more than 10000"):
        index(worker, node)
    assert "more than 10000" in ChainHead.objects.get().trouble


def test_receipts_are_asked_for_only_where_the_header_speaks_of_our_contracts(
    worker: Worker, node: FaultyNode
) -> None:
    worker.index()
    worker.chain.mine(3)
    index(worker, node)
    assert node.seen[RECEIPTS] == 0

    worker.chain.send(ALICE, "Gateway", "deposit", b"\2" * 32, value=5)
    index(worker, node)
    assert node.seen[RECEIPTS] == 1


def test_a_node_without_receipts_of_a_block_is_believed_its_events(
    worker: Worker, node: FaultyNode
) -> None:
    def unknown(called: str, _: list[Any], answer: dict[str, Any]) -> Any:
        error = {"code": -32601, "message": "the method does not exist"}
        return (
            {"id": answer["id"], "jsonrpc": "2.0", "error": error} if called == RECEIPTS else answer
        )

    worker.index()
    worker.chain.send(ALICE, "Gateway", "deposit", b"\2" * 32, value=5)
    node.twist = unknown
    index(worker, node)
    assert ChainLog.objects.get(event="Deposited").arguments["amount"] == "5"


def test_a_receipt_that_a_node_does_not_show_moves_nothing_and_takes_nothing_back(
    worker: Worker, node: FaultyNode
) -> None:
    intent = request_anchor(sequence=1, size=1, root=b"\1" * 32, at=timezone.now())
    assert intent is not None
    worker.send()
    worker.chain.mine()
    worker.send()
    worker.chain.mine(4)
    worker.index()
    node.twist = of("eth_getTransactionReceipt", lambda _: None)
    faulty = ChainClient(node.url, timeout=2, retries=1)

    for _ in range(2):
        send_step(
            client=faulty, signer=worker.signer, chain_id=31337,
            settings=SenderSettings(resend_after=0.0, bump_after=3600.0),
        )  # fmt: skip
    intent.refresh_from_db()
    assert intent.state == Intent.State.MINED

    worker.send()
    intent.refresh_from_db()
    assert intent.state == Intent.State.FINAL
