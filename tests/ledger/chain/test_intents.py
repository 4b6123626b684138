"""An intent reaches the chain once, whatever happens between two lines of the sender."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.utils import timezone

from ledger.chain import artifacts
from ledger.chain.client import ChainError, RpcError, UnreachableError
from ledger.errors import LimitReached, WaitingForChain
from ledger.models import Account
from ledger.models.chain import ChainLog, ChainWallet, Intent, IntentAttempt
from ledger.services import chain as intents
from tests.chain_fixtures import ALICE, OPEN, OPERATOR, Chain, Worker
from tests.ledger.books import person

State = Intent.State


def anchor(sequence: int, size: int) -> Intent:
    intent = intents.request_anchor(
        sequence=sequence, size=size, root=bytes([sequence]) * 32, at=timezone.now()
    )
    assert intent is not None
    return intent


def test_an_anchor_goes_from_recorded_to_final(worker: Worker) -> None:
    intent = anchor(1, 10)
    assert intent.state == State.NEW

    worker.send()
    intent.refresh_from_db()
    assert intent.state == State.SEEN

    worker.run()
    intent.refresh_from_db()
    assert (intent.state, intent.succeeded) == (State.FINAL, True)
    assert worker.chain.read("LogAnchor", "root") == bytes([1]) * 32
    assert intent.fee


def test_a_deposit_from_the_faucet_is_credited_once_it_is_safe(worker: Worker) -> None:
    user = person("payer")
    intent = intents.request_faucet(
        user=user, amount=3 * OPEN, acting_user=user, key="first", at=timezone.now()
    )
    account = Account.objects.get(pk=intent.cause_id)

    worker.send()
    worker.chain.mine()
    worker.index()
    account.refresh_from_db()
    assert account.balance == 0

    worker.run()
    account.refresh_from_db()
    assert account.balance == 3 * OPEN
    assert worker.chain.balance(worker.chain.address("Gateway")) == 3 * OPEN


def test_asked_twice_for_one_key_one_intent_is_written(worker: Worker) -> None:
    assert anchor(1, 10).pk == anchor(1, 10).pk


def test_the_faucet_gives_no_more_than_its_limit(worker: Worker) -> None:
    user = person("greedy")
    with pytest.raises(LimitReached):
        intents.request_faucet(
            user=user, amount=1001 * OPEN, acting_user=user, key="x", at=timezone.now()
        )
    assert not Intent.objects.exists()


def test_there_is_no_faucet_off_the_local_chain(worker: Worker, settings) -> None:
    settings.CHAIN_IS_LOCAL = False
    with pytest.raises(WaitingForChain):
        intents.request_faucet(
            user=person("p"), amount=OPEN, acting_user=None, key="x", at=timezone.now()
        )


def test_without_a_chain_an_anchor_is_not_asked_for(db, settings) -> None:
    settings.CHAIN_ENABLED = False
    assert intents.request_anchor(sequence=1, size=1, root=b"1" * 32, at=timezone.now()) is None


def test_what_the_contract_refuses_fails_with_its_reason_and_costs_no_nonce(worker: Worker) -> None:
    anchor(5, 10)
    worker.run()
    late = anchor(4, 20)

    worker.run()

    late.refresh_from_db()
    assert late.state == State.FAILED
    assert "SequenceNotAfter" in late.failure_reason
    assert late.nonce is None


def test_many_intents_go_out_together_with_contiguous_nonces(worker: Worker) -> None:
    for number in range(1, 21):
        anchor(number, number)
    worker.run(8)
    assert set(Intent.objects.values_list("state", flat=True)) == {State.FINAL}
    nonces = sorted(Intent.objects.values_list("nonce", flat=True))
    assert nonces == list(range(nonces[0], nonces[0] + 20))


class Faulty:
    """A node that fails on the raw sends, before or after it took the transactions."""

    def __init__(self, worker: Worker, *, taken: bool, error: ChainError) -> None:
        self.real = worker.chain.client.send_raws
        self.taken = taken
        self.error = error

    def __call__(self, signed: Sequence[tuple[str, bytes]]) -> list[ChainError | None]:
        if self.taken:
            self.real(signed)
        return [self.error] * len(signed)


@pytest.mark.parametrize("taken", [True, False])
def test_a_lost_answer_sends_the_same_bytes_again(worker: Worker, monkeypatch, taken) -> None:
    intent = anchor(1, 1)
    fault = Faulty(worker, taken=taken, error=UnreachableError("cut"))
    with monkeypatch.context() as patch:
        patch.setattr(worker.chain.client, "send_raws", fault)
        with pytest.raises(UnreachableError):
            worker.send()
    assert IntentAttempt.objects.count() == 1

    worker.run()

    intent.refresh_from_db()
    assert intent.state == State.FINAL
    assert IntentAttempt.objects.count() == 1


def test_an_underpriced_attempt_is_replaced_at_the_same_nonce(worker: Worker, monkeypatch) -> None:
    intent = anchor(1, 1)
    refused = Faulty(worker, taken=False, error=RpcError("send", -32000, "transaction underpriced"))
    with monkeypatch.context() as patch:
        patch.setattr(worker.chain.client, "send_raws", refused)
        worker.send()
    first, second = IntentAttempt.objects.order_by("id")
    assert first.nonce == second.nonce
    assert second.maximum_fee * 1000 >= first.maximum_fee * 1125
    assert second.priority_fee * 1000 >= first.priority_fee * 1125

    worker.run()
    intent.refresh_from_db()
    assert intent.state == State.FINAL


def test_a_nonce_that_another_used_is_signed_anew(worker: Worker, monkeypatch) -> None:
    intent = anchor(1, 1)
    with monkeypatch.context() as patch:
        lost = Faulty(worker, taken=False, error=UnreachableError("cut"))
        patch.setattr(worker.chain.client, "send_raws", lost)
        with pytest.raises(UnreachableError):
            worker.send()
    worker.chain.transfer(OPERATOR, ALICE, 1)

    worker.run(rounds=8)  # one to see that the nonce is gone, one to sign anew, and the usual five

    intent.refresh_from_db()
    assert intent.state == State.FINAL
    assert IntentAttempt.objects.filter(intent=intent).count() == 2


def test_a_second_sender_keeps_off_a_wallet_that_is_held(worker: Worker) -> None:
    anchor(1, 1)
    worker.send()
    wallet = ChainWallet.objects.get()
    wallet.lease_owner = "another"
    wallet.lease_expires_at = timezone.now() + timezone.timedelta(seconds=30)
    wallet.save()
    anchor(2, 2)
    assert worker.send() == 0
    assert Intent.objects.filter(state=State.NEW).count() == 1


def test_a_reorganisation_takes_events_back_and_sends_the_same_bytes_again(worker: Worker) -> None:
    worker.run()
    snapshot = worker.chain.client.rpc("evm_snapshot")
    intent = anchor(1, 7)
    worker.send()
    worker.chain.mine()
    worker.index()
    intent.refresh_from_db()
    worker.send()
    intent.refresh_from_db()
    assert intent.state == State.MINED, intent.failure_reason
    assert ChainLog.objects.filter(event="Anchored").count() == 1

    worker.chain.client.rpc("evm_revert", snapshot)
    worker.chain.warp(7)
    worker.chain.mine(3)
    worker.index()
    intent.refresh_from_db()
    assert intent.state == State.SIGNED
    assert not ChainLog.objects.filter(event="Anchored").exists()

    worker.run()
    intent.refresh_from_db()
    assert intent.state == State.FINAL
    assert IntentAttempt.objects.count() == 1
    assert ChainLog.objects.filter(event="Anchored").count() == 1


@pytest.mark.usefixtures("late_finality")
def test_a_deposit_that_comes_again_from_another_place_is_credited_once(worker: Worker) -> None:
    chain = worker.chain
    worker.run()
    snapshot = chain.client.rpc("evm_snapshot")
    user = person("payer")
    intents.request_faucet(user=user, amount=OPEN, acting_user=user, key="first", at=timezone.now())
    worker.run()
    worker.settle(32)
    account = Account.objects.get(kind=Account.Kind.USER, owner_id=user.pk)
    assert account.balance == OPEN
    assert ChainLog.objects.get(event="Deposited").log_index == 0

    # Past a safe block: the same transaction, behind another one of the same block.
    chain.client.rpc("evm_revert", snapshot)
    chain.warp(7)
    chain.mine(6)
    worker.index()
    data = artifacts.load("Gateway").encode_call("deposit", b"\1" * 32)
    fields = {"from": ALICE, "to": chain.address("Gateway"), "data": "0x" + data.hex()}
    fields |= {"value": hex(5), "gas": hex(200_000), "maxPriorityFeePerGas": hex(10**12)}
    chain.client.rpc("eth_sendTransaction", fields | {"maxFeePerGas": hex(10**13)})
    worker.run()
    worker.settle(32)

    account.refresh_from_db()
    assert ChainLog.objects.get(event="Deposited", arguments__amount=str(OPEN)).log_index == 1
    assert account.balance == OPEN


def test_a_deposit_to_an_unknown_account_is_kept_apart(worker: Worker) -> None:
    data = artifacts.load("Gateway").encode_call("deposit", b"\1" * 32)
    worker.chain.submit(ALICE, worker.chain.address("Gateway"), data, value=OPEN)
    worker.run()
    unassigned = Account.objects.get(kind=Account.Kind.UNASSIGNED)
    assert unassigned.balance == OPEN


def test_a_far_behind_mirror_reads_in_windows(chain: Chain, worker: Worker) -> None:
    chain.send(ALICE, "Gateway", "deposit", b"\2" * 32, value=5)
    chain.client.rpc("anvil_mine", hex(1500))
    chain.send(ALICE, "Gateway", "deposit", b"\2" * 32, value=6)
    worker.run(4)
    amounts = ChainLog.objects.filter(event="Deposited").values_list("arguments", flat=True)
    assert [item["amount"] for item in amounts] == ["5", "6"]
