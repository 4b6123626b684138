"""What the chain takes back: followed above the final block, a full stop below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEvent, Notification
from ledger.chain.indexer import FinalityBrokenError
from ledger.models import Account, Deposit, Intent
from ledger.models.chain import ChainHead, ChainLog
from ledger.services import chain as intents
from ledger.services.halting import NotHalted, lift_halt
from ledger.services.opening import account_for
from ledger.services.receivables import owed_by
from tests.chain_fixtures import ALICE, OPEN, Worker
from tests.ledger.books import balance_of, hold_for, person

CHAIN = 31337


def reorganise(worker: Worker, depth: int, *, drop: bool = True) -> None:
    """Have the last `depth` blocks replaced by as many others, without their transactions."""
    worker.chain.client.rpc("anvil_reorg", depth, [])
    if drop:
        worker.chain.client.rpc("anvil_dropAllTransactions")


def deposit(worker: Worker, user: Any, amount: int) -> str:
    account = account_for(Account.Kind.USER, user.pk)
    word = account.pk.bytes.rjust(32, b"\0")
    receipt = worker.chain.send(ALICE, "Gateway", "deposit", word, value=amount)
    return receipt.tx_hash


@pytest.mark.usefixtures("late_finality")
def test_a_credited_deposit_that_a_reorganisation_drops_is_owed(worker: Worker) -> None:
    user = person("payer")
    worker.settle(70)
    tx_hash = deposit(worker, user, 5 * OPEN)
    raw = worker.chain.client.rpc("eth_getRawTransactionByHash", tx_hash)
    worker.settle(33)
    assert balance_of(Account.Kind.USER, user.pk) == 5 * OPEN
    hold_for(user, 4 * OPEN)

    reorganise(worker, 40)
    worker.chain.mine()
    worker.index()

    assert (balance_of(Account.Kind.USER, user.pk), owed_by(user.pk)) == (0, 4 * OPEN)
    assert balance_of(Account.Kind.GATEWAY) == 0
    assert ChainHead.objects.get().halted_at is None

    worker.chain.client.rpc("eth_sendRawTransaction", raw)
    worker.settle(34)

    assert (balance_of(Account.Kind.USER, user.pk), owed_by(user.pk)) == (OPEN, 0)
    assert Deposit.objects.get().undone == 1


def test_a_reorganisation_past_the_final_block_stops_mirror_and_sender(worker: Worker) -> None:
    staff = person("staff")
    staff.is_staff = True
    staff.save()
    user = person("payer")
    worker.run(3)
    deposit(worker, user, 5 * OPEN)
    worker.run(6)
    assert balance_of(Account.Kind.USER, user.pk) == 5 * OPEN

    reorganise(worker, 8)
    worker.chain.mine()
    with pytest.raises(FinalityBrokenError):
        worker.index()

    head = ChainHead.objects.get()
    assert head.halted_at is not None
    assert "was final" in head.halt_reason
    assert balance_of(Account.Kind.USER, user.pk) == 5 * OPEN
    assert Notification.objects.filter(user=staff, kind="ledger.alarm").count() == 1
    # It stays so: nothing is read, nothing is signed.
    intents.request_anchor(sequence=1, size=1, root=b"\1" * 32, at=timezone.now())
    assert worker.index() is None
    assert worker.send() == 0
    assert Intent.objects.get().state == Intent.State.NEW
    assert Notification.objects.filter(user=staff, kind="ledger.alarm").count() == 1


def test_once_staff_lift_the_halt_everything_follows_the_chain(worker: Worker) -> None:
    user, staff = person("payer"), person("staff")
    worker.run(3)
    deposit(worker, user, 5 * OPEN)
    worker.run(6)
    reorganise(worker, 8)
    worker.chain.mine()
    with pytest.raises(FinalityBrokenError):
        worker.index()

    lift_halt(chain_id=CHAIN, acting_user=staff, note="anvil was reset", at=timezone.now())
    worker.run(4)

    assert balance_of(Account.Kind.USER, user.pk) == 0
    assert balance_of(Account.Kind.GATEWAY) == 0
    assert not ChainLog.objects.filter(event="Deposited").exists()
    head, latest = ChainHead.objects.get(), worker.chain.client.block("latest")
    assert latest is not None
    assert (head.number, head.halted_at) == (latest.number, None)
    lifted = AuditEvent.objects.get(verb="ledger.halt_lifted")
    assert (lifted.actor, lifted.data["note"]) == (staff, "anvil was reset")
    with pytest.raises(NotHalted):
        lift_halt(chain_id=CHAIN, acting_user=staff, note="", at=timezone.now())


def stale(worker: Worker, height: int) -> Callable[[int | str], Any]:
    """The same chain as a node sees it that has only come to `height`."""
    real = worker.chain.client.block

    def block(which: int | str) -> Any:
        if which == "latest":
            return real(height)
        if isinstance(which, int) and which > height:
            return None
        found = real(which)
        return real(max(0, height - 2)) if found and found.number > height else found

    return block


def test_a_node_that_is_behind_takes_nothing_back(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CHAIN_IS_LOCAL = False
    user = person("payer")
    deposit(worker, user, OPEN)
    worker.run(6)
    before = ChainHead.objects.get()

    with monkeypatch.context() as patch:
        patch.setattr(worker.chain.client, "block", stale(worker, before.number - 5))
        progress = worker.index()

    after = ChainHead.objects.get()
    assert progress.events == 0
    assert (after.number, after.hash, after.final_number) == (
        before.number, before.hash, before.final_number,
    )  # fmt: skip
    assert balance_of(Account.Kind.USER, user.pk) == OPEN


def test_a_local_node_that_lost_its_last_blocks_is_followed_without_a_halt(worker: Worker) -> None:
    user = person("payer")
    worker.run(3)
    snapshot = worker.chain.client.rpc("evm_snapshot")
    deposit(worker, user, OPEN)
    worker.run(6)
    assert balance_of(Account.Kind.USER, user.pk) == OPEN

    worker.chain.client.rpc("evm_revert", snapshot)
    worker.chain.mine()
    worker.index()

    assert ChainHead.objects.get().halted_at is None
    assert balance_of(Account.Kind.USER, user.pk) == 0
