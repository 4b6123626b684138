"""Payouts by the real sender and store: asked for, carried out, and added up to the wei."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from ledger.chain import local
from ledger.chain.addresses import from_bytes
from ledger.chain.client import ChainClient
from ledger.chain.jobs import SenderSettings
from ledger.chain.keccak import keccak256
from ledger.chain.signers import KeySigner
from ledger.models.chain import ChainWallet, Intent
from ledger.services.indexing import index_chain
from ledger.services.sending import send_step
from tests.chain_fixtures import Chain

State = Intent.State
PAYER_KEY = local.DEV_KEYS[6]


def recipient(number: int, salt: str = "") -> str:
    return from_bytes(keccak256(f"recipient {salt}{number}".encode())[12:])


def ask_for(count: int, *, first: int = 0, gas_limit: int | None = 21_000) -> list[Intent]:
    """Intents to pay 1000 + n wei to recipient n, each another."""
    intents = [
        Intent(
            kind=Intent.Kind.FAUCET,
            key=f"pay:{number}",
            chain_id=local.LOCAL_CHAIN_ID,
            to=recipient(number),
            data=b"",
            value=1000 + number,
            outflow=1000 + number,
            gas_limit=gas_limit,
        )
        for number in range(first, first + count)
    ]
    return Intent.objects.bulk_create(intents)


class Clock:
    """Time that passes when it is told to; from now on, so that rows of now are not of later."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return timezone.now().astimezone(UTC) + self.ahead

    def pass_(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


class Payer:
    """A wallet with its sender, on a chain that mines when it is told to."""

    def __init__(self, chain: Chain, url: str = "", **settings: Any) -> None:
        self.chain = chain
        self.client = ChainClient(url or chain.url, timeout=20.0, retries=1)
        self.signer = KeySigner(PAYER_KEY, chain_id=local.LOCAL_CHAIN_ID)
        self.address = self.signer.address
        self.clock = Clock()
        self.settings = SenderSettings(**settings)
        self.began_with = chain.balance(self.address)
        self.first_nonce = chain.client.nonce(self.address)

    def step(self) -> int:
        return send_step(
            client=self.client,
            signer=self.signer,
            chain_id=local.LOCAL_CHAIN_ID,
            settings=self.settings,
            now=self.clock,
        )

    def mine(self, blocks: int = 1) -> None:
        self.chain.client.rpc("anvil_mine", hex(blocks))
        index_chain(
            client=self.chain.client,
            deployment=self.chain.deployment,
            confirmations=2,
            at=timezone.now(),
        )

    def price(self, base_fee: int) -> None:
        """What a unit of gas costs in the next block, in wei; it falls from there by itself."""
        self.chain.client.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_fee))

    def run(self, rounds: int = 6, seconds: float = 1.0) -> None:
        for _ in range(rounds):
            self.step()
            self.mine()
            self.clock.pass_(seconds)
        self.step()

    def finish(self, rounds: int = 40) -> None:
        """Run until all is settled."""
        for _ in range(rounds):
            if not Intent.objects.exclude(state__in=Intent.SETTLED).exists():
                return
            self.run(1, 6.0)
        states = Intent.objects.values_list("state", flat=True)
        raise AssertionError(f"not settled: {sorted(states)}")

    @property
    def wallet(self) -> ChainWallet:
        return ChainWallet.objects.get(address=self.address)

    @property
    def alarms(self) -> set[str]:
        return set(self.wallet.alarms)

    def paid_once(self, intents: Sequence[Intent]) -> None:
        """Every intent was paid exactly once, and the wallet fell by that and the fees alone."""
        paid = 0
        for intent in Intent.objects.filter(pk__in=[one.pk for one in intents]):
            assert intent.state == State.FINAL, (intent.state, intent.failure_reason)
            assert self.chain.balance(intent.to) == intent.value
            paid += intent.value
        fees = int(Intent.objects.aggregate(total=Sum("fee"))["total"] or 0)
        assert self.chain.balance(self.address) - self.began_with == -(paid + fees)

    def contiguous(self, count: int) -> None:
        """Exactly `count` nonces were used, none left out."""
        nonces = sorted(Intent.objects.exclude(nonce=None).values_list("nonce", flat=True))
        assert nonces == list(range(self.first_nonce, self.first_nonce + count))
        assert self.chain.client.nonce(self.address) == self.first_nonce + count
