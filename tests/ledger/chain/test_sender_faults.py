"""Whatever the node does: paid at most once, in the end exactly once, to the wei."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.test import Client

from accounts.models import Notification
from ledger.chain.client import ChainClient, ChainError, UnreachableError
from ledger.chain.local import DEV_KEYS
from ledger.models.chain import Intent, IntentAttempt
from tests.chain_fixtures import ALICE, OPEN, Chain
from tests.ledger.books import person
from tests.ledger.chain.faulty_node import FaultyNode
from tests.ledger.chain.paying import Payer, ask_for, recipient

State = Intent.State
GWEI = 10**9


@pytest.fixture
def node(chain_settings: Chain, db: None) -> Iterator[FaultyNode]:
    with FaultyNode(chain_settings.url) as node:
        yield node


@pytest.fixture
def payer(chain_settings: Chain, node: FaultyNode) -> Payer:
    return Payer(chain_settings, node.url)


@pytest.fixture
def staff(db: None):
    user = person("staff")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


def attempts() -> int:
    return IntentAttempt.objects.count()


def test_a_hundred_dropped_transactions_go_out_again_as_the_same_bytes(node, payer) -> None:
    intents = ask_for(100)
    node.drop_sends = 100
    payer.step()
    assert Intent.objects.filter(state=State.SEEN).count() == 100
    payer.mine()
    payer.step()
    assert not Intent.objects.filter(state=State.MINED).exists()

    payer.clock.pass_(6)
    payer.finish()

    payer.paid_once(intents)
    payer.contiguous(100)
    assert attempts() == 100


def test_a_hundred_that_are_called_too_cheap_are_raised_at_their_nonces(node, payer) -> None:
    intents = ask_for(100)
    node.refuse_sends = ["transaction underpriced"] * 100
    payer.finish()
    payer.paid_once(intents)
    payer.contiguous(100)
    assert attempts() == 200
    for intent in intents[::10]:
        first, second = intent.tries.all()
        assert first.nonce == second.nonce
        assert second.maximum_fee * 1000 >= first.maximum_fee * 1125
        assert second.priority_fee * 1000 >= first.priority_fee * 1125


def test_a_hundred_that_wait_below_the_price_of_gas_are_raised(node, payer) -> None:
    intents = ask_for(100)
    payer.step()
    base = payer.client.look(payer.address).base_fee
    payer.price(50 * base)
    payer.mine()
    payer.step()
    assert not Intent.objects.filter(state=State.MINED).exists()

    payer.clock.pass_(31)
    payer.finish()

    payer.paid_once(intents)
    payer.contiguous(100)
    assert attempts() >= 200


def test_an_answer_that_is_lost_after_acceptance_pays_once(node, payer) -> None:
    intents = ask_for(100)
    node.lose_answers = 100
    with pytest.raises(UnreachableError):
        payer.step()
    assert Intent.objects.filter(state=State.SIGNED).count() == 100
    assert payer.client.look(payer.address).pending == payer.first_nonce + 100

    payer.clock.pass_(6)
    payer.finish()

    payer.paid_once(intents)
    payer.contiguous(100)
    assert attempts() == 100


@pytest.mark.parametrize("accepted", [0, 1, 17])
def test_a_batch_that_is_cut_in_the_middle_pays_once(node, payer, accepted) -> None:
    intents = ask_for(20)
    node.takes_batches = False
    node.drop_sends = accepted
    node.lose_answers = 1
    with pytest.raises(UnreachableError):
        payer.step()
    payer.finish()
    payer.paid_once(intents)
    payer.contiguous(20)


def test_ten_minutes_of_a_node_that_fails_in_every_way_then_800_contiguous_nonces(
    node, payer, staff
) -> None:
    intents = ask_for(40)
    payer.step()
    dice = random.Random(5)
    web = Client()
    patient, hasty = payer.client, ChainClient(node.url, timeout=0.5, retries=1)
    for minute in range(10):
        mode = ("absent", "garbage", "slow", "stale")[minute % 4]
        payer.client = hasty if mode == "slow" else patient
        if mode == "stale":
            node.freeze()
            payer.mine()
        else:
            node.mode = mode
        intents += ask_for(76, first=len(intents))
        for _ in range(3):
            try:
                payer.step()
            except ChainError:
                assert mode != "stale"
            payer.clock.pass_(20)
        if dice.random() < 0.5:
            payer.mine()
        if minute in (2, 8):
            assert web.get("/").status_code == 200
            assert web.get("/explorer/").status_code == 200
    assert "node" in payer.alarms or "stuck" in payer.alarms
    assert Notification.objects.filter(user=staff, kind="ledger.alarm").exists()

    node.well()
    payer.client = patient
    payer.finish(60)

    assert len(intents) == 800
    payer.paid_once(intents)
    payer.contiguous(800)
    assert payer.alarms == set()
    assert payer.wallet.problem == ""


def test_pages_answer_while_there_is_no_node_at_all(chain_settings, payer, settings, staff) -> None:
    ask_for(3)
    payer.step()
    settings.CHAIN_RPC_URL = "http://127.0.0.1:1"
    web = Client()
    web.force_login(staff)
    for page in ("/", "/explorer/", "/earnings/", "/wallet/", "/staff/"):
        assert web.get(page).status_code == 200, page


def test_a_stale_node_never_makes_a_paid_one_look_unpaid(node, payer) -> None:
    """It shows the nonce as used and no receipt: what it does not show proves nothing."""
    intents = ask_for(5)
    payer.step()
    payer.mine(3)
    real = payer.client.receipts
    payer.client.receipts = lambda hashes, **_: {}
    for _ in range(5):
        payer.step()
        payer.clock.pass_(60)
    assert Intent.objects.filter(state=State.NEW).count() == 0
    assert attempts() == 5
    payer.client.receipts = real
    payer.finish()
    payer.paid_once(intents)


def test_a_spike_of_the_price_over_the_cap_waits_with_an_alarm(node, payer, staff) -> None:
    """What is on its way is raised up to the cap, once; what is new is not signed at all."""
    sent = ask_for(5)
    payer.step()
    for _ in range(4):
        payer.price(900 * GWEI)
        payer.mine()
        payer.clock.pass_(31)
        if not Intent.objects.filter(state=State.NEW).exists():
            waiting = ask_for(5, first=5)
        payer.step()
    assert payer.alarms == {"fees"}
    assert "CHAIN_FEE_CAP_WEI" in payer.wallet.problem
    assert Intent.objects.filter(state=State.NEW).count() == 5
    assert attempts() == 10
    assert max(IntentAttempt.objects.values_list("maximum_fee", flat=True)) == 500 * GWEI
    assert Notification.objects.filter(user=staff, kind="ledger.alarm").count() == 1

    payer.price(GWEI)
    payer.finish()

    payer.paid_once([*sent, *waiting])
    payer.contiguous(10)
    assert payer.wallet.problem == ""


def test_an_empty_wallet_waits_with_an_alarm_and_goes_on_when_filled(node, payer, staff) -> None:
    intents = ask_for(3)
    payer.step()
    payer.chain.client.rpc("anvil_setBalance", payer.address, hex(21_000))
    payer.mine()
    intents += ask_for(3, first=3)
    payer.clock.pass_(6)
    payer.step()
    assert "funds" in payer.alarms
    assert Intent.objects.filter(state=State.NEW).count() == 3

    payer.chain.client.rpc("anvil_setBalance", payer.address, hex(OPEN))
    payer.began_with = OPEN
    payer.finish()

    payer.paid_once(intents)
    payer.contiguous(6)
    assert payer.alarms == set()
    assert Notification.objects.filter(user=staff, kind="ledger.alarm").count() == 1


def test_what_the_wallet_cannot_pay_for_does_not_block_what_moves_nothing(node, payer) -> None:
    large = ask_for(1)[0]
    Intent.objects.filter(pk=large.pk).update(value=10**9 * OPEN)
    small = Intent.objects.create(
        kind=Intent.Kind.ANCHOR, key="small", chain_id=31337, to=ALICE, data=b"", gas_limit=21_000
    )
    payer.run(10)
    small.refresh_from_db()
    large.refresh_from_db()
    assert (small.state, large.state) == (State.FINAL, State.NEW)
    assert "funds" in payer.alarms


def test_what_is_on_its_way_fills_five_blocks_and_no_more(node, payer) -> None:
    """A node packs a block by limits of gas: of these four fit, and twenty into five blocks."""
    block = payer.client.look(payer.address).gas_limit
    limit = block // 4 - 1
    intents = ask_for(33, gas_limit=limit)
    waiting = Intent.objects.filter(state=State.NEW)
    payer.step()
    assert waiting.count() == 33 - 20
    payer.step()
    assert waiting.count() == 33 - 20

    payer.mine()
    payer.step()
    assert waiting.count() == 0

    payer.finish()
    payer.paid_once(intents)
    payer.contiguous(33)


def test_where_blocks_are_tiny_a_transactions_worth_goes_at_a_time(node, payer) -> None:
    """Else the bound would hold back for ever what five such blocks do not hold."""
    real = payer.client.look
    payer.client.look = lambda address: replace(real(address), gas_limit=1_000)
    intents = ask_for(3, gas_limit=None)
    payer.step()
    assert Intent.objects.filter(state=State.NEW).count() == 0
    intents += ask_for(2, first=3)
    payer.step()
    assert Intent.objects.filter(state=State.NEW).count() == 2
    payer.finish()
    payer.paid_once(intents)
    payer.contiguous(5)


def test_bytes_that_no_node_takes_become_nothing_and_free_the_nonces_behind(node, payer) -> None:
    intents = ask_for(5)
    node.refuse_bytes = recipient(2)[2:].lower()
    node.refuse_always = "intrinsic gas too low"

    payer.finish()

    lost = Intent.objects.get(key="pay:2")
    assert lost.state == State.FAILED
    assert "intrinsic gas too low" in lost.failure_reason
    assert payer.chain.balance(lost.to) == 0
    assert [one.noop for one in lost.tries.all()] == [False, True]
    assert lost.fee > 0
    payer.paid_once([one for one in intents if one.pk != lost.pk])
    payer.contiguous(5)


def test_a_payment_that_was_given_up_but_mined_all_the_same_counts_as_paid(node, payer) -> None:
    """The first node refused it for good; another had taken it, and its block came first."""
    intents = ask_for(1)
    node.refuse_bytes = recipient(0)[2:].lower()
    node.refuse_always = "exceeds block gas limit"
    for _ in range(3):
        payer.step()
        payer.clock.pass_(6)
    first, nothing = IntentAttempt.objects.all()
    assert (first.noop, nothing.noop, first.nonce) == (False, True, nothing.nonce)
    payer.chain.client.rpc("anvil_dropAllTransactions")
    payer.chain.client.send_raw(bytes(first.raw))
    payer.mine()

    payer.finish()

    payer.paid_once(intents)
    payer.contiguous(1)
    assert Intent.objects.get().failure_reason == ""


def test_nonces_that_were_left_out_are_filled(chain_settings, node, payer) -> None:
    """The node told of three transactions of this wallet, and then had never heard of them."""
    real = payer.client.look
    payer.client.look = lambda address: replace(real(address), pending=real(address).pending + 3)
    intents = ask_for(4)
    payer.step()
    payer.client.look = real
    payer.run(2)
    assert not Intent.objects.filter(state=State.MINED).exists()
    payer.clock.pass_(61)
    payer.finish()
    assert Intent.objects.filter(kind=Intent.Kind.FILL).count() == 3
    payer.paid_once(intents)
    payer.contiguous(7)


def test_another_user_of_the_wallet_takes_no_payment_with_it(chain_settings, node, payer) -> None:
    """Two senders that know nothing of each other, with one key: each nonce is one's alone."""
    intents = ask_for(6)
    node.drop_sends = 6
    payer.step()
    for _ in range(3):
        payer.chain.transfer(payer.address, ALICE, 7)
    payer.finish()
    for intent in Intent.objects.filter(pk__in=[one.pk for one in intents]):
        assert intent.state == State.FINAL
        assert payer.chain.balance(intent.to) == intent.value
    assert Intent.objects.filter(nonce__gte=payer.first_nonce + 6).count() == 3


def test_a_reorganisation_sends_the_same_bytes_again(node, payer) -> None:
    payer.mine(3)
    intents = ask_for(30)
    payer.step()
    payer.mine()
    payer.step()
    assert Intent.objects.filter(state=State.MINED).count() == 30
    mined_in = set(Intent.objects.values_list("block_hash", flat=True))
    # The block goes, and its transactions are in no pool any more.
    payer.chain.client.rpc("anvil_reorg", 1, [])
    assert payer.chain.client.nonce(payer.address) == payer.first_nonce
    payer.mine()

    payer.finish()

    payer.paid_once(intents)
    payer.contiguous(30)
    assert attempts() == 30
    assert not mined_in & set(Intent.objects.values_list("block_hash", flat=True))


def test_a_node_on_another_chain_is_sent_nothing(chain_settings, node, payer, staff) -> None:
    ask_for(2)
    real = payer.client.look
    payer.client.look = lambda address: replace(real(address), chain_id=10)
    assert payer.step() == 0
    assert payer.alarms == {"chain"}
    assert node.seen["eth_sendRawTransaction"] == 0
    payer.client.look = real
    payer.finish()
    assert payer.alarms == set()


@pytest.mark.parametrize("seed", range(int(os.environ.get("SENDER_CAMPAIGNS", "2"))))
def test_any_order_of_faults_pays_once(chain_settings, node, payer, seed) -> None:
    """SENDER_CAMPAIGNS=200 runs as many."""
    dice = random.Random(seed)
    intents: list[Intent] = []
    for _ in range(25):
        if len(intents) < 120 and dice.random() < 0.6:
            intents += ask_for(dice.randint(1, 12), first=len(intents))
        fault = dice.choice(
            ("well", "well", "absent", "garbage", "drop", "lose", "cheap", "batch", "spike")
        )
        node.mode = fault if fault in ("absent", "garbage") else "well"
        node.takes_batches = fault != "batch"
        payer.client.takes_batches = True
        node.drop_sends = dice.randint(1, 9) if fault == "drop" else 0
        node.lose_answers = dice.randint(1, 3) if fault == "lose" else 0
        node.refuse_sends = ["underpriced"] * dice.randint(1, 5) if fault == "cheap" else []
        if fault == "spike":
            payer.price(dice.randint(1, 700) * GWEI)
        try:
            payer.step()
        except ChainError:
            assert fault in ("absent", "garbage", "lose")
        if dice.random() < 0.7:
            payer.mine()
        payer.clock.pass_(dice.choice((1, 6, 40)))
    node.well()
    node.drop_sends, node.lose_answers, node.refuse_sends, node.takes_batches = 0, 0, [], True
    payer.price(GWEI)
    payer.finish(80)
    payer.paid_once(intents)
    payer.contiguous(len(intents))


def test_the_key_is_one_of_the_local_chain(payer) -> None:
    assert payer.signer.address == Payer(payer.chain).signer.address
    assert DEV_KEYS[6]
