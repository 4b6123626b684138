"""How many payouts a second get from a committed intent to MINED in the database.

The product's own sender and store, on a PostgreSQL that waits for the disk (`fsync` on) and a local
anvil that mines a block of 60 million gas each second. Counted is from the commit of all intents to
the moment at which the last one is MINED in the database. The peer is web3 as its documentation
shows it: fill, send, wait for the receipt, one after the other, in the same run on the same node.
Batches go through `Gateway.withdraw`, 104 recipients a transaction, to addresses that the chain
has never seen and then to the same ones again. What a block holds bounds the first: a payment to a
new address costs 37,900 gas and a batch 48,000 more, so 60 million hold 15 batches of 104, which is
1,560 payments; of batches of 100, 150 or 300 they hold 1,500. The run is long, so that the wait for
the first block, half a second on the average, is a small part of it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import house, report

if TYPE_CHECKING:
    from ledger.models.chain import Intent

PAYER, PEER = 6, 7  # anvil's accounts
BLOCK_GAS = 60_000_000
# Fills a block best, see above; a batch may hold 300.
RECIPIENTS = 104
# Full blocks raise the price of gas by an eighth each, and what is signed may pay twice the price
# of its moment: after six of them it is priced out. So five blocks' worth is on its way, no more.
BATCHES_IN_FLIGHT = 75
PAYMENT_GAS = 21_000
FIRST = "0x" + "b1" * 16
GATEWAY_FUNDS = 10**21


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--payouts", type=int, default=3_000)
    parser.add_argument("--batches", type=int, default=460)
    parser.add_argument("--peer", type=int, default=8, help="payouts of the peer")
    options = parser.parse_args()
    result = report.Report("chain", options)
    with tempfile.TemporaryDirectory(prefix="bench-chain-") as name:
        folder = Path(name)
        with house.durable(folder), Node(folder) as chain:
            ours = chain.rate(chain.payouts(options.payouts), options.payouts)
            peer = chain.web3_rate(options.peer)
            result.add("payouts", ours, "intents/s", at_least=300)
            result.add("web3: fill, send, wait", peer, "payouts/s")
            result.add("payouts / web3", ours / peer, "x", at_least=5)
            people = options.batches * RECIPIENTS
            for kind, bar in (("new", 1_500), ("known", 3_500)):
                rate = chain.rate(
                    chain.batches(options.batches, kind), people, in_flight=BATCHES_IN_FLIGHT
                )
                result.add(f"batches, {kind} recipients", rate, "recipients/s", at_least=bar)
            result.add("intents that are not MINED", chain.left(), "intents", at_most=0)
            result.add("intents that were refused", chain.refused(), "intents", at_most=0)
    return result.finish()


class Chain:
    """A node with the contracts, and a sender on it."""

    def __init__(self, url: str, deployment: Any) -> None:
        from ledger.chain import local
        from ledger.chain.client import ChainClient
        from ledger.chain.signers import KeySigner

        self.client = ChainClient(url)
        self.deployment = deployment
        self.chain_id = local.LOCAL_CHAIN_ID
        self.signer = KeySigner(local.DEV_KEYS[PAYER], chain_id=self.chain_id)
        self.peer = local.DEV_ADDRESSES[PEER]
        self.url = url

    def rate(self, intents: Sequence[Intent], count: int, *, in_flight: int = 4_000) -> float:
        """`count` a second, from the commit of the intents until the last is MINED."""
        from ledger.chain.jobs import SenderSettings
        from ledger.models.chain import Intent
        from ledger.services.sending import send_for

        Intent.objects.bulk_create(intents)
        began = time.monotonic()
        while self.left():
            send_for(
                client=self.client,
                signer=self.signer,
                chain_id=self.chain_id,
                settings=SenderSettings(in_flight=in_flight, follow=1_000),
                seconds=5,
            )
        return count / (time.monotonic() - began)

    def left(self) -> int:
        from ledger.models.chain import Intent

        done = ("MINED", "SAFE", "FINAL")
        return Intent.objects.exclude(state__in=done).count()

    def refused(self) -> int:
        """In a block, and reverted there: a limit of gas that is too low, for example."""
        from ledger.models.chain import Intent

        return Intent.objects.filter(succeeded=False).count()

    def payouts(self, count: int) -> list[Intent]:
        from ledger.models.chain import Intent

        return [
            self._intent(Intent.Kind.FAUCET, f"pay:{n}", _address(n), b"", 1_000 + n, PAYMENT_GAS)
            for n in range(count)
        ]

    def batches(self, count: int, kind: str) -> list[Intent]:
        from accounts.ids import uuid7
        from ledger import calldata
        from ledger.models.chain import Intent

        gateway = self.deployment.address("Gateway")
        made: list[Intent] = []
        gas = 0
        for n in range(count):
            payments = [(_address(10**6 + n * RECIPIENTS + m), 1_000) for m in range(RECIPIENTS)]
            data = calldata.withdraw(uuid7(), payments)
            # A block takes a transaction by what it may use; one batch costs what the next does.
            gas = gas or self.client.estimate_gas(gateway, data, sender=self.signer.address)
            kind_of = Intent.Kind.WITHDRAW
            limit = gas + gas // 500
            made.append(self._intent(kind_of, f"{kind}:{n}", gateway, data, 0, limit))
        return made

    def web3_rate(self, count: int) -> float:
        """web3's defaults, with an account that the node signs for."""
        from web3 import HTTPProvider, Web3
        from web3.types import Wei

        node = Web3(HTTPProvider(self.url))
        began = time.monotonic()
        for n in range(count):
            to = node.to_checksum_address(_address(10**7 + n))
            sent = node.eth.send_transaction({"from": self.peer, "to": to, "value": Wei(1_000 + n)})
            node.eth.wait_for_transaction_receipt(sent)
        return count / (time.monotonic() - began)

    def _intent(
        self, kind: Any, key: str, to: str, data: bytes, value: int, gas_limit: int
    ) -> Intent:
        from ledger.models.chain import Intent

        return Intent(
            kind=kind,
            key=f"bench:{key}",
            chain_id=self.chain_id,
            to=to,
            data=data,
            value=value,
            gas_limit=gas_limit,
        )


class Node:
    """An anvil with large blocks and the contracts, whose operator is the payer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Chain:
        from config.embedded.paths import free_port
        from ledger.chain import local
        from ledger.chain.client import ChainClient
        from ledger.chain.deploy import DeploySettings, deploy
        from ledger.chain.signers import KeySigner

        binary = local.ensure_anvil(Path(sys.prefix) / "share" / "openledger")
        self.anvil = local.Anvil(binary, free_port(8700), block_time=1)
        self.anvil.start()
        client = ChainClient(self.anvil.url)
        client.rpc("evm_setBlockGasLimit", hex(BLOCK_GAS))
        payer = local.DEV_ADDRESSES[PAYER]
        signer = KeySigner(local.DEV_KEYS[PAYER], chain_id=local.LOCAL_CHAIN_ID)
        settings = DeploySettings(publisher=payer, guardian=local.DEV_ADDRESSES[1])
        deployment = deploy(client, signer, settings, path=self.folder / "deployment.json")
        gateway = deployment.address("Gateway")
        client.rpc("anvil_setBalance", gateway, hex(GATEWAY_FUNDS))
        return Chain(self.anvil.url, deployment)

    def __exit__(self, *_: object) -> None:
        self.anvil.stop()


def _address(number: int) -> str:
    from ledger.chain.addresses import to_checksum

    return to_checksum(f"{FIRST}{number:08x}")


if __name__ == "__main__":
    raise SystemExit(main())
