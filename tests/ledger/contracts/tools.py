"""Recipients with a mind of their own, and trees for the distributor."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

from ledger.chain import artifacts, distribution
from ledger.chain.client import Receipt, RpcError
from ledger.chain.deploy import name_word
from tests.chain_fixtures import GUARDIAN, OPERATOR, Chain

POOLS = "StakePools"
# The terms of `DeploySettings`, which the test's chain was deployed with.
DAY = 86_400
COOLDOWN = PERIOD = WINDOW = 7 * DAY
TERM = 90 * DAY
BOND = 10 * 10**18
FLEXIBLE, LOCKED = name_word("flexible"), name_word("locked")
MODEL = bytes(16) + bytes(range(1, 17))
EVIDENCE = hashlib.sha256(b"why").digest()
RATE_SCALE = 1 << 32

HOSTILE = Path(__file__).with_name("hostile")

# Runtime code of recipients: one refuses, one burns all the gas it gets, one takes everything.
REFUSES = "0x60006000fd"
BURNS = "0x5b600056"
TAKES = "0x00"


def tree_of(chain: Chain, amounts: dict[str, int]) -> distribution.Tree:
    return distribution.build(
        chain_id=31337, distributor=chain.address("RewardDistributor"), amounts=amounts.items()
    )


def publish_arguments(chain: Chain, tree: distribution.Tree, epoch: int) -> tuple[object, ...]:
    return (epoch, tree.total, tree.root, hashlib.sha256(b"the leaves").digest())


def fund(chain: Chain, amount: int) -> None:
    chain.transfer(OPERATOR, chain.address("RewardDistributor"), amount)


def publish(chain: Chain, amounts: dict[str, int], epoch: int) -> distribution.Tree:
    tree = tree_of(chain, amounts)
    chain.send(OPERATOR, "RewardDistributor", "publish", *publish_arguments(chain, tree, epoch))
    return tree


def claim_arguments(tree: distribution.Tree, account: str) -> tuple[object, ...]:
    claim = tree.claim(account)
    return (claim.account, claim.cumulative, list(claim.proof))


def claim(chain: Chain, tree: distribution.Tree, account: str, *, sender: str) -> Receipt:
    return chain.send(sender, "RewardDistributor", "claim", *claim_arguments(tree, account))


def as_timelock(chain: Chain) -> str:
    """The timelock as a sender, with OPEN for gas."""
    timelock = chain.address("Timelock")
    chain.client.rpc("anvil_impersonateAccount", timelock)
    chain.client.rpc("anvil_setBalance", timelock, hex(10**20))
    return timelock


@dataclass(frozen=True)
class Position:
    """What StakePools says of one stake; amounts in wei."""

    staked: int
    cooling: int
    releases_at: int
    earned: int
    withdrawable: int
    held: int
    slash_id: int


def position(chain: Chain, pool: bytes, account: str) -> Position:
    return Position(*chain.read(POOLS, "position", pool, account))


def stake(chain: Chain, account: str, amount: int, pool: bytes = FLEXIBLE) -> Receipt:
    return chain.send(account, POOLS, "stake", pool, value=amount)


def fund_pool(chain: Chain, amount: int, pool: bytes = FLEXIBLE) -> Receipt:
    return chain.send(OPERATOR, POOLS, "fund", pool, value=amount)


def propose_slash(chain: Chain, account: str, share: int, pool: bytes = FLEXIBLE) -> int:
    """The number of the new slash."""
    receipt = chain.send(OPERATOR, POOLS, "proposeSlash", pool, account, share, EVIDENCE)
    return int(chain.events(receipt)[0][1]["slashId"])


def set_paused(chain: Chain, contract: str, *, paused: bool) -> None:
    chain.send(GUARDIAN if paused else as_timelock(chain), contract, "setPaused", paused)


class Mode(IntEnum):
    """What a Hostile does when it is paid."""

    ACCEPT = 0
    REFUSE = 1
    BURN = 2
    BOMB = 3
    CALL_BACK = 4


@cache
def hostile_artifact() -> artifacts.Artifact:
    raw = json.loads((HOSTILE / "artifacts" / "Hostile.json").read_text())
    return artifacts.Artifact(raw["contractName"], tuple(raw["abi"]), raw["bytecode"])


class Hostile:
    """A contract that holds money and misbehaves when it is paid; `owner` pays its gas."""

    def __init__(self, chain: Chain, owner: str) -> None:
        self.chain, self.owner = chain, owner
        fields = {"from": owner, "data": hostile_artifact().bytecode, "gas": hex(2_000_000)}
        receipt = self._mined(str(chain.client.rpc("eth_sendTransaction", fields)))
        assert receipt.contract is not None
        self.address = receipt.contract

    def arm(self, mode: Mode, contract: str = "", function: str = "", *values: Any) -> None:
        """Do that when paid; a call back goes to `function` of `contract`."""
        target = self.chain.address(contract) if contract else self.owner
        data = artifacts.load(contract).encode_call(function, *values) if contract else b""
        self._send("arm", int(mode), target, data)

    def run(self, contract: str, function: str, *values: Any, value: int = 0) -> Receipt:
        """Call as this holder; the test fails where it reverts."""
        return self._send("run", *self._call(contract, function, *values), value=value)

    def reverts(self, contract: str, function: str, *values: Any, value: int = 0) -> str:
        """Why such a call reverts; "" where it does not."""
        data = hostile_artifact().encode_call("run", *self._call(contract, function, *values))
        try:
            self.chain.client.call(self.address, data, sender=self.owner, value=value)
        except RpcError as error:
            return artifacts.explain_revert(error.data)
        return ""

    def answers(self, receipt: Receipt) -> list[tuple[bool, str]]:
        """Whether each call back went through, and why it did not."""
        logs = [log for log in receipt.logs if log.address == self.address]
        decoded = [hostile_artifact().decode_log(log.topics, log.data) for log in logs]
        events = [event for event in decoded if event is not None]
        return [
            (arguments["succeeded"], artifacts.explain_revert(arguments["answer"]))
            for _, arguments in events
        ]

    def _call(self, contract: str, function: str, *values: Any) -> tuple[str, bytes]:
        data = artifacts.load(contract).encode_call(function, *values)
        return self.chain.address(contract), data

    def _send(self, function: str, *values: Any, value: int = 0) -> Receipt:
        data = hostile_artifact().encode_call(function, *values)
        receipt = self._mined(self.chain.submit(self.owner, self.address, data, value=value))
        assert receipt.succeeded
        return receipt

    def _mined(self, tx_hash: str) -> Receipt:
        self.chain.mine()
        receipt = self.chain.client.receipt(tx_hash)
        assert receipt is not None
        return receipt
