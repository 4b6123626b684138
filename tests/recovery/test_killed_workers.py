"""kill -9 of each process under a stream of questions: nothing is lost, nothing is paid twice."""

import random
import sys
from typing import Any

import httpx
import pytest

from config.embedded.paths import REPOSITORY
from tests.recovery.clients import Clients
from tests.recovery.conftest import Rig

pytestmark = pytest.mark.timeout(900)

KILLED = ("generate", "attribute", "chain", "worker", "relay", "beat", "web", "redis")


@pytest.fixture(scope="module")
def survived(rig: Rig, service: dict[str, Any]) -> Clients:
    """Each process was killed once while people asked, and everything has come to rest."""
    chance = random.Random(20_261_121)
    names = chance.sample(KILLED, len(KILLED))
    with Clients(rig.house.address, service) as clients:
        for place, name in enumerate(names):
            _answers(rig, clients, chance.randint(1, 3))
            # Deposits are under way at each kill, so that the chain's worker has something to lose.
            rig.act("ask_faucet", keys=[f"{name}-{number}" for number in range(2)])
            rig.kill_and_return(name)
            if place == len(names) // 2:
                rig.flush_redis()
        _answers(rig, clients, 2)
    rig.until("rest", lambda: not unfinished(rig))
    return clients


def _answers(rig: Rig, clients: Clients, more: int) -> None:
    """Wait for answers to questions, which shows that whatever was killed works again."""
    before = clients.answered
    rig.until("answers", lambda: clients.answered >= before + more)


def unfinished(rig: Rig) -> dict[str, int]:
    """How much work of each kind has not come to its end."""
    counts = {
        "completions": "FROM serving_completion WHERE state IN ('HELD', 'RUNNING')",
        "attributions": "FROM attribution_attribution WHERE state <> 'DONE'",
        "leaves": "FROM attribution_logleaf WHERE index IS NULL",
        "intents": "FROM ledger_intent WHERE state NOT IN ('FINAL', 'FAILED')",
        "distributions": "FROM ledger_distribution WHERE state <> 'ACTIVE'",
        "messages": "FROM accounts_outboxmessage",
        "events": "FROM ledger_chainlog WHERE applied_at IS NULL",
    }
    found = {name: rig.value(f"SELECT count(*) {query}") for name, query in counts.items()}
    return {name: count for name, count in found.items() if count}


def test_every_question_was_answered_or_failed_with_a_reason(rig: Rig, survived: Clients) -> None:
    states = dict(rig.rows("SELECT state, count(*) FROM serving_completion GROUP BY state"))
    assert set(states) <= {"SUCCEEDED", "CANCELLED", "FAILED"}
    assert states["SUCCEEDED"] >= survived.answered
    failed = (
        "SELECT count(*) FROM serving_completion WHERE state = 'FAILED' AND failure_reason = ''"
    )
    assert rig.value(failed) == 0


def test_every_hold_was_captured_once_or_released(rig: Rig, survived: Clients) -> None:
    wrong = rig.rows(
        "SELECT c.id, c.state, c.fee, h.state, "
        "count(e.id) FILTER (WHERE e.kind = 'CAPTURE') AS captures, "
        "count(e.id) FILTER (WHERE e.kind = 'RELEASE') AS releases "
        "FROM serving_completion c JOIN ledger_hold h ON h.id = c.hold_id "
        "LEFT JOIN ledger_entry e ON e.cause_id = c.id "
        "GROUP BY c.id, h.id "
        "HAVING NOT CASE WHEN c.fee > 0 THEN h.state = 'CAPTURED' "
        "AND count(e.id) FILTER (WHERE e.kind = 'CAPTURE') = 1 "
        "AND count(e.id) FILTER (WHERE e.kind = 'RELEASE') = 0 "
        "ELSE h.state = 'RELEASED' "
        "AND count(e.id) FILTER (WHERE e.kind = 'CAPTURE') = 0 "
        "AND count(e.id) FILTER (WHERE e.kind = 'RELEASE') = 1 END"
    )
    assert wrong == []
    free = "SELECT count(*) FROM serving_completion WHERE state = 'FAILED' AND fee > 0"
    assert rig.value(free) == 0
    held = "SELECT sum(balance) FROM ledger_account WHERE kind = 'HOLD'"
    assert rig.value(held) == 0


def test_every_paid_answer_has_one_receipt_and_one_settlement(rig: Rig, survived: Clients) -> None:
    wrong = rig.rows(
        "SELECT c.id, count(DISTINCT r.id), count(DISTINCT e.id) "
        "FROM serving_completion c JOIN serving_deployment d ON d.id = c.deployment_id "
        "LEFT JOIN attribution_receipt r ON r.completion_id = c.id "
        "LEFT JOIN ledger_entry e ON e.cause_id = c.id AND e.kind = 'SETTLEMENT' "
        "WHERE c.fee > 0 GROUP BY c.id, d.id "
        "HAVING count(DISTINCT r.id) <> 1 "
        "OR count(DISTINCT e.id) <> CASE WHEN d.model_id IS NULL THEN 0 ELSE 1 END"
    )
    assert wrong == []
    left = "SELECT id, balance FROM ledger_account WHERE kind = 'SUSPENSE' AND balance <> 0"
    assert rig.rows(left) == []
    without_leaf = (
        "SELECT id FROM attribution_receipt WHERE id NOT IN "
        "(SELECT receipt_id FROM attribution_logleaf)"
    )
    assert rig.rows(without_leaf) == []
    untold = (
        "SELECT c.id FROM serving_completion c JOIN attribution_receipt r "
        "ON r.completion_id = c.id WHERE c.receipt_id IS DISTINCT FROM r.id"
    )
    assert rig.rows(untold) == []


def test_every_intent_was_carried_out_once(rig: Rig, survived: Clients) -> None:
    assert rig.rows("SELECT id, failure_reason FROM ledger_intent WHERE state = 'FAILED'") == []
    asked = rig.value("SELECT count(*) FROM ledger_intent WHERE kind = 'FAUCET'")
    assert asked == 1 + 2 * len(KILLED)
    deposits = (
        "SELECT count(*), count(DISTINCT tx_hash) FROM ledger_chainlog "
        "WHERE contract = 'Gateway' AND event = 'Deposited'"
    )
    assert rig.rows(deposits) == [(asked, asked)]
    assert rig.value("SELECT count(*) FROM ledger_entry WHERE kind = 'DEPOSIT'") == asked
    # The log is anchored every now and then, and such a transaction may be on its way just now.
    # One that was lost, or sent beside the intents, would keep the two apart.
    signed = "SELECT next_nonce FROM ledger_chainwallet"
    rig.until("all that is signed on the chain", lambda: _transactions(rig) == rig.value(signed))


def _transactions(rig: Rig) -> int:
    """How many transactions of our wallet the chain has."""
    address = rig.value("SELECT address FROM ledger_chainwallet")
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionCount"}
    reply = httpx.post(
        rig.house.environment["CHAIN_RPC_URL"], json={**call, "params": [address, "latest"]}
    )
    return int(reply.json()["result"], 16)


def test_ledger_chain_and_log_say_the_same(rig: Rig, survived: Clients) -> None:
    command = (sys.executable, str(REPOSITORY / "manage.py"), "reconcile")
    assert (
        rig.house.supervisor.run(command, name="reconcile", environment=rig.house.environment) == 0
    ), rig.house.supervisor.logs.tail("reconcile", 40)
