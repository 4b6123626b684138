"""A chain that keeps changing its mind, and what the books must say each time.

`Campaign` lets people deposit, spend, withdraw and give, has earnings published and claimed, by
our relay or by anybody's own transaction, and checkpoints anchored. It has the last blocks replaced
by others in which their transactions are moved, re-ordered or missing, and computes from the node
alone what the ledger has to hold. The same seed gives the same moves.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import User
from config.reconciliation import check_chain
from ledger import calldata
from ledger.chain import artifacts
from ledger.chain.addresses import to_checksum
from ledger.chain.client import ChainClient, RpcError
from ledger.chain.indexer import FinalityBrokenError
from ledger.chain.sender import SenderSettings
from ledger.errors import LedgerError
from ledger.models import Account, ChainHead, Distribution, Intent, Withdrawal
from ledger.reconciliation import check_ledger
from ledger.services.chain import request_anchor
from ledger.services.claims import claim_proof, request_relayed_claim
from ledger.services.distributions import publish_distribution
from ledger.services.halting import is_halted, lift_halt
from ledger.services.opening import account_for
from ledger.services.payouts import advance_withdrawals
from ledger.services.receivables import owed_by, settle_receivables
from ledger.services.roots import advance_distributions, retry_distribution
from ledger.services.sending import send_step
from ledger.services.withdrawals import request_withdrawal
from ledger.splits import Part, Split
from tests.chain_fixtures import ALICE, BOB, CAROL, Worker
from tests.ledger.books import balance_of, capture, hold_for, link, person

CHAIN = 31337
SAFE, FINAL = 32, 64
PAYERS = {"ann": ALICE, "ben": BOB, "cay": CAROL}
WHOLE = Split(1, (Part("model_owner", 10_000),))
UNIT = 10**9


@dataclass
class Person:
    user: User
    sender: str
    wallet: str
    spent: int = 0

    @property
    def account(self) -> Account:
        return account_for(Account.Kind.USER, self.user.pk)


@dataclass
class Campaign:
    worker: Worker
    seed: int
    people: list[Person] = field(default_factory=list)
    # Whose model it is that was paid for.
    authors: list[Person] = field(default_factory=list)
    anchors: int = 0
    # Raw bytes of transactions that a reorganisation left out; some of them come again.
    dropped: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        for number, (name, sender) in enumerate(PAYERS.items()):
            wallet = to_checksum("0x" + f"{0x7000 + number:040x}")
            self.people.append(Person(person(name), sender, wallet))
            link(self.people[-1].user, wallet)
        for number, name in enumerate(("author", "second")):
            wallet = to_checksum("0x" + f"{0x8000 + number:040x}")
            self.authors.append(Person(person(name), ALICE, wallet))
            link(self.authors[-1].user, wallet)

    def start(self) -> None:
        """A chain with a past, and some money that no reorganisation reaches."""
        self.worker.index()
        for one in self.people:
            self.deposit_for(one, 10**6 * UNIT)
        self.worker.chain.client.rpc("anvil_mine", hex(100))
        self.index()

    # ------------------------------------------------------------------ what people do

    def act(self) -> None:
        """A few random acts, with a few blocks between them."""
        acts = (
            self.deposit, self.deposit, self.spend, self.withdraw, self.publish, self.claim,
            self.claim_by_wallet, self.anchor, self.give,
        )  # fmt: skip
        for _ in range(self.random.randint(2, 6)):
            self.random.choice(acts)()
            if self.random.random() < 0.5:
                self.step(self.random.choice((1, 1, 2, 5)))
        self.step(self.random.choice((1, 3, 12, 33, 40)))

    def deposit(self) -> None:
        self.deposit_for(self.random.choice(self.people), self.random.randint(1, 10**6) * UNIT)

    def deposit_for(self, one: Person, amount: int) -> None:
        self.worker.chain.submit(
            one.sender, self.worker.chain.address("Gateway"), calldata.deposit(one.account.pk),
            value=amount, gas=100_000,
        )  # fmt: skip
        self.seen["deposits"] += 1

    def _some_of(self, one: Person) -> int:
        """A part of what can be spent, at times all of it; 0 where nothing can."""
        balance = balance_of(Account.Kind.USER, one.user.pk)
        if balance == 0 or self.random.random() < 0.15:
            return balance
        return self.random.randint(1, balance // 3 + 1)

    def spend(self) -> None:
        one = self.random.choice(self.people)
        amount = self._some_of(one)
        if amount == 0:
            return
        try:
            author = self.random.choice(self.authors)
            hold = hold_for(one.user, amount, split=WHOLE, model_owner=author.user)
        except LedgerError:
            return
        one.spent += amount
        if self.random.random() < 0.7:
            capture(hold, amount)

    def withdraw(self) -> None:
        one = self.random.choice(self.people)
        amount = self._some_of(one)
        if amount == 0:
            return
        try:
            request_withdrawal(
                user=one.user, source=Account.Kind.USER, address=one.wallet, amount=amount,
                key=str(uuid7()), acting_user=one.user, at=timezone.now(),
            )  # fmt: skip
            self.seen["withdrawals"] += 1
        except LedgerError:
            self.seen["refused"] += 1
        advance_withdrawals(at=timezone.now())

    def publish(self) -> None:
        under_way = Distribution.objects.exclude(state=Distribution.State.ACTIVE).exists()
        if not under_way and publish_distribution(at=timezone.now(), acting_user=None):
            self.seen["distributions"] += 1

    def claim(self) -> None:
        author = self.random.choice(self.authors)
        try:
            request_relayed_claim(address=author.wallet, acting_user=author.user, at=timezone.now())
            self.seen["claims"] += 1
        except LedgerError:
            pass

    def claim_by_wallet(self) -> None:
        """A claim that we did not send; it may overtake ours, or be made under a root that went."""
        try:
            ready = claim_proof(self.random.choice(self.authors).wallet)
        except LedgerError:
            return
        self.worker.chain.submit(
            CAROL, self.worker.chain.address("RewardDistributor"), ready.calldata, gas=200_000
        )
        self.seen["own claims"] += 1

    def anchor(self) -> None:
        self.anchors += 1
        request_anchor(
            sequence=self.anchors, size=self.anchors, root=bytes([1]) * 32, at=timezone.now()
        )

    def give(self) -> None:
        """Somebody sends OPEN to the distributor, unasked."""
        distributor = self.worker.chain.address("RewardDistributor")
        self.worker.chain.submit(BOB, distributor, value=self.random.randint(1, 99), gas=60_000)
        self.seen["gifts"] += 1

    # ------------------------------------------------------------------ the machinery

    def send(self, *, bump: bool = False) -> None:
        send_step(
            client=self.worker.chain.client, signer=self.worker.signer, chain_id=CHAIN,
            settings=SenderSettings(resend_after=0.0, bump_after=0.0 if bump else 3600.0),
        )  # fmt: skip

    def step(self, blocks: int) -> None:
        self.send(bump=self.random.random() < 0.1)
        self.worker.chain.client.rpc("anvil_mine", hex(blocks))
        self.index()

    def index(self) -> None:
        try:
            self.worker.index()
        except FinalityBrokenError:
            self._halted()
        advance_withdrawals(at=timezone.now())
        settle_receivables(at=timezone.now())

    def _halted(self) -> None:
        """Everything stands still until staff have lifted it; then the mirror follows the chain."""
        self.seen["halts"] += 1
        assert is_halted(CHAIN)
        before = ChainHead.objects.get()
        signed = Intent.objects.exclude(state=Intent.State.NEW).count()
        self.send()
        assert self.worker.index() is None
        assert Intent.objects.exclude(state=Intent.State.NEW).count() == signed
        assert ChainHead.objects.get().number == before.number
        lift_halt(chain_id=CHAIN, acting_user=None, note="seen", at=timezone.now())
        self.worker.index()

    def reorganise(self, depth: int) -> None:
        """Replace the last `depth` blocks: each sender's transactions up to a random one come
        again, in random blocks and in a new order between the senders."""
        # On a busy machine anvil takes its time for dozens of blocks.
        rpc = ChainClient(self.worker.chain.url, timeout=300.0, retries=1).rpc
        latest = self.latest()
        by_sender: dict[str, list[tuple[int, str]]] = {}
        for number in range(latest - depth + 1, latest + 1):
            for one in rpc("eth_getBlockByNumber", hex(number), True)["transactions"]:
                raw = rpc("eth_getRawTransactionByHash", one["hash"])
                by_sender.setdefault(one["from"], []).append((int(one["nonce"], 16), raw))
        pairs: list[tuple[int, float, str]] = []
        for transactions in by_sender.values():
            whole = len(transactions)
            kept = self.random.choice((whole, self.random.randint(0, whole)))
            offsets = sorted(self.random.randrange(depth) for _ in range(kept))
            turn = sorted(self.random.random() for _ in range(kept))
            raws = [raw for _, raw in sorted(transactions)]
            pairs += zip(offsets, turn, raws[:kept], strict=True)
            self.dropped += raws[kept:]
            self.seen["moved"] += kept
            self.seen["dropped"] += whole - kept
        # Else a block without transactions would come again as the very same one.
        rpc("anvil_setCoinbase", f"0x{self.random.randrange(2**160):040x}")
        rpc("anvil_reorg", depth, [[raw, offset] for offset, _, raw in sorted(pairs)])
        # What is in the pool now is a chance of the node's; ours decides who comes again.
        rpc("anvil_dropAllTransactions")
        self.seen["reorganisations"] += 1

    def come_again(self) -> None:
        """Some of what was left out reaches the node again, as a public pool would have it."""
        for raw in self.dropped:
            if self.random.random() < 0.6:
                try:
                    self.worker.chain.client.rpc("eth_sendRawTransaction", raw)
                    self.seen["again"] += 1
                except RpcError:
                    self.seen["too late"] += 1
        self.dropped.clear()

    # ------------------------------------------------------------------ what must hold

    def compare(self) -> None:
        """Balances of people against a model of them that is read from the node; the contracts'
        accounts, and what is under way, against the contracts and each other, to the wei."""
        deposits = self._deposits(self.latest() - SAFE)
        for one in self.people:
            out = sum(
                row.amount
                for row in Withdrawal.objects.filter(user=one.user)
                if row.state not in Withdrawal.RETURNED
            )
            backed = deposits[one.account.pk] - one.spent - out
            found = (balance_of(Account.Kind.USER, one.user.pk), owed_by(one.user.pk))
            assert found == (max(0, backed), max(0, -backed)), (one.user.handle, self.told())
        wrong = [one for one in (*check_ledger(), *check_chain()) if not one.holds]
        assert not wrong, (wrong, self.told())

    def _deposits(self, last: int) -> Counter[Any]:
        """Wei that came in for each account up to block `last`, as the node tells it."""
        found: Counter[Any] = Counter()
        for name, arguments in self.events("Gateway", last):
            if name == "Deposited":
                found[calldata.id_from_word(arguments["accountId"])] += arguments["amount"]
        return found

    def events(self, contract: str, last: int) -> list[tuple[str, dict[str, Any]]]:
        chain = self.worker.chain
        logs = chain.client.logs(chain.deployment.block, last, [chain.address(contract)])
        artifact = artifacts.load(contract)
        decoded = [artifact.decode_log(log.topics, log.data) for log in logs]
        return [(name, dict(arguments)) for name, arguments in filter(None, decoded)]

    def drain(self) -> None:
        """Let everything that is on its way come to its end; who owes something deposits it, and
        staff start again what failed while that was missing."""
        for _ in range(12):
            for one in self.people:
                if owed := owed_by(one.user.pk):
                    self.deposit_for(one, owed)
                    self.seen["settled"] += 1
            for failed in Distribution.objects.filter(state=Distribution.State.FAILED):
                retry_distribution(
                    distribution=failed, acting_user=self.authors[0].user, at=timezone.now()
                )
                self.seen["started again"] += 1
            advance_distributions(at=timezone.now())
            advance_withdrawals(at=timezone.now())
            self.send()
            self.worker.chain.client.rpc("anvil_mine", hex(1))
            self.send()
            self.worker.chain.client.rpc("anvil_mine", hex(FINAL + 2))
            for _ in range(3):
                self.index()
                self.send()
            waiting = Intent.objects.exclude(state__in=Intent.SETTLED)
            drafts = Distribution.objects.exclude(state=Distribution.State.ACTIVE)
            if not waiting.exists() and not drafts.exists():
                return
        pytest.fail(f"something never ended: {list(waiting)} {list(drafts)} {self.told()}")

    def told(self) -> str:
        return f"seed {self.seed}, {dict(self.seen)}"

    def latest(self) -> int:
        block = self.worker.chain.client.block("latest")
        assert block is not None
        return block.number
