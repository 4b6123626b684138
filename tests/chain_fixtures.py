"""A real chain for tests: one anvil without mining, put back after each test."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.chain import artifacts, local
from ledger.chain.client import ChainClient, Receipt, RpcError
from ledger.chain.deploy import DeploySettings, deploy
from ledger.chain.deployment import Deployment
from ledger.chain.signers import load_signer

OPEN = 10**18
OPERATOR, GUARDIAN, ALICE, BOB, CAROL, STRANGER = local.DEV_ADDRESSES[:6]
VOTING_DELAY, VOTING_PERIOD, TIMELOCK_DELAY = 5, 30, 5


def cache_folder() -> Path:
    chosen = os.environ.get("OPENLEDGER_CACHE")
    return Path(chosen) if chosen else Path(sys.prefix) / "share" / "openledger"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Chain:
    """What a test does on the chain. Nothing is mined but by `mine`, and by what says so."""

    def __init__(self, url: str, deployment: Deployment, path: Path) -> None:
        self.url = url
        self.client = ChainClient(url)
        self.deployment = deployment
        self.path = path

    def address(self, contract: str) -> str:
        return self.deployment.address(contract)

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.client.rpc("evm_mine")

    def warp(self, seconds: int) -> None:
        """Let `seconds` pass and mine."""
        self.client.rpc("evm_increaseTime", seconds)
        self.mine()

    def now(self) -> int:
        block = self.client.block("latest")
        assert block is not None
        return block.timestamp

    def submit(
        self, sender: str, to: str, data: bytes = b"", *, value: int = 0, gas: int = 16_000_000
    ) -> str:
        """Hand a transaction of an unlocked account to the node; returns its hash."""
        fields = {"from": sender, "to": to, "data": "0x" + data.hex()}
        fields |= {"value": hex(value), "gas": hex(gas)}
        return str(self.client.rpc("eth_sendTransaction", fields))

    def send(
        self, sender: str, contract: str, function: str, *values: Any, value: int = 0
    ) -> Receipt:
        """Call a function in a block of its own; the test fails where it reverts."""
        data = artifacts.load(contract).encode_call(function, *values)
        tx_hash = self.submit(sender, self.address(contract), data, value=value)
        self.mine()
        receipt = self.client.receipt(tx_hash)
        assert receipt is not None
        assert receipt.succeeded, self.reverts(sender, contract, function, *values, value=value)
        return receipt

    def transfer(self, sender: str, to: str, value: int) -> Receipt:
        tx_hash = self.submit(sender, to, value=value)
        self.mine()
        receipt = self.client.receipt(tx_hash)
        assert receipt is not None
        return receipt

    def reverts(
        self, sender: str, contract: str, function: str, *values: Any, value: int = 0
    ) -> str:
        """Why a call reverts, in words; "" where it does not."""
        data = artifacts.load(contract).encode_call(function, *values)
        try:
            self.client.call(self.address(contract), data, sender=sender, value=value)
        except RpcError as error:
            return artifacts.explain_revert(error.data)
        return ""

    def read(self, contract: str, function: str, *values: Any) -> Any:
        """What a view returns; one value alone, several as a tuple."""
        artifact = artifacts.load(contract)
        data = artifact.encode_call(function, *values)
        result = artifact.decode_result(function, self.client.call(self.address(contract), data))
        return result[0] if len(result) == 1 else result

    def events(self, receipt: Receipt) -> list[tuple[str, dict[str, Any]]]:
        """The events of our contracts in a receipt."""
        decoded = [
            artifacts.load(self.deployment.name(log.address)).decode_log(log.topics, log.data)
            for log in receipt.logs
            if self.deployment.name(log.address)
        ]
        return [event for event in decoded if event is not None]

    def balance(self, address: str) -> int:
        return self.client.balance(address)

    def install_code(self, address: str, code: str) -> None:
        """Put runtime bytecode at an address: a recipient with a mind of its own."""
        self.client.rpc("anvil_setCode", address, code)


@pytest.fixture(scope="session")
def deployed_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    try:
        binary = local.ensure_anvil(cache_folder())
    except (local.LocalChainError, RuntimeError) as error:
        pytest.skip(f"no local chain: {error}")
    folder = tmp_path_factory.mktemp("chain")
    with local.Anvil(binary, free_port(), block_time=0) as anvil:
        client = ChainClient(anvil.url)
        signer = load_signer(chain_id=local.LOCAL_CHAIN_ID)
        settings = DeploySettings(
            publisher=OPERATOR, guardian=GUARDIAN, voting_delay=VOTING_DELAY,
            voting_period=VOTING_PERIOD, timelock_delay=TIMELOCK_DELAY, late_quorum_extension=5,
        )  # fmt: skip
        path = folder / "deployment.json"
        deployment = deploy(
            client, signer, settings, path=path, pause=lambda: client.rpc("evm_mine")
        )
        yield Chain(anvil.url, deployment, path)


@pytest.fixture
def chain(deployed_chain: Chain) -> Iterator[Chain]:
    """The chain with fresh contracts; what a test does to it is undone."""
    latest = deployed_chain.client.block("latest")
    assert latest is not None
    snapshot = deployed_chain.client.rpc("evm_snapshot")
    yield deployed_chain
    # The pool outlives a revert: what a test left there would be mined in the next one.
    deployed_chain.client.rpc("anvil_dropAllTransactions")
    deployed_chain.client.rpc("evm_revert", snapshot)
    # So does the price of gas: after a test that raised it, nothing cheap would ever be mined.
    deployed_chain.client.rpc("anvil_setNextBlockBaseFeePerGas", hex(latest.base_fee))


@pytest.fixture
def chain_settings(chain: Chain, settings: Any) -> Chain:
    """The product configured for the test's chain."""
    settings.CHAIN_ENABLED = True
    settings.CHAIN_RPC_URL = chain.url
    settings.CHAIN_ID = local.LOCAL_CHAIN_ID
    settings.CHAIN_IS_LOCAL = True
    settings.CHAIN_DEPLOYMENT = chain.path
    return chain


@pytest.fixture
def late_finality(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Blocks are safe after 32 and final after 64, as with epochs of 32 slots."""
    real = chain.client.block
    behind = {"safe": 32, "finalized": 64}

    def block(which: int | str) -> Any:
        if which not in behind:
            return real(which)
        latest = real("latest")
        assert latest is not None
        return real(max(0, latest.number - behind[str(which)]))

    monkeypatch.setattr(chain.client, "block", block)
    return chain


class Worker:
    """What the worker of the `chain` queue does, one step at a time, with a block after each."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.signer = load_signer(chain_id=local.LOCAL_CHAIN_ID)

    def send(self) -> int:
        from ledger.chain.sender import SenderSettings
        from ledger.services.sending import send_step

        return send_step(
            client=self.chain.client,
            signer=self.signer,
            chain_id=local.LOCAL_CHAIN_ID,
            settings=SenderSettings(resend_after=0.0, bump_after=3600.0),
        )

    def index(self) -> Any:
        from django.utils import timezone

        from ledger.services.indexing import index_chain

        return index_chain(
            client=self.chain.client,
            deployment=self.chain.deployment,
            confirmations=2,
            at=timezone.now(),
        )

    def run(self, rounds: int = 5) -> None:
        """Send, mine and mirror until what was asked for is final."""
        for _ in range(rounds):
            self.send()
            self.chain.mine()
            self.index()
        self.send()

    def settle(self, blocks: int) -> None:
        """Let `blocks` pass with nothing in them, and read them."""
        self.chain.client.rpc("anvil_mine", hex(blocks))
        self.index()


@pytest.fixture
def worker(chain_settings: Chain, db: None) -> Worker:
    return Worker(chain_settings)
