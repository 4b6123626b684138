"""Deploys the contracts, hands every role to the timelock, and writes down where they are.

The addresses follow from the deployer's nonces, so all transactions go out at once and the whole
takes two or three blocks. Called again it looks whether the code is still there and follows the
address registry, which the holders govern: where a name points to another instance by now, the file
is written anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from ledger.chain import artifacts
from ledger.chain.addresses import ZERO_ADDRESS, address_bytes, from_bytes
from ledger.chain.client import ChainClient, ChainError, Fees, Receipt
from ledger.chain.deployment import Deployment, read_deployment
from ledger.chain.keccak import keccak256
from ledger.chain.signers import Signer

OPEN = 10**18
CALL_GAS = 200_000
# Creation costs 200 gas a byte of code that stays, 16 a byte of data, and the constructor's own.
GAS_A_BYTE = 260
CONSTRUCTOR_GAS = 800_000
DAY = 86_400
REGISTRY = "AddressRegistry"


class PoolKind(IntEnum):
    """What leaving a pool takes, as StakePools numbers it."""

    FLEXIBLE = 1
    LOCKED = 2


class DeployError(ChainError):
    """A contract could not be deployed, or a role not be handed over."""


class IncompleteDeploymentError(DeployError):
    """The file names contracts that are there, but not all that this release needs."""


@dataclass(frozen=True)
class StakeTerms:
    """What StakePools starts with: periods in seconds, limit in basis points, bond in wei."""

    cooldown: int = 7 * DAY
    period: int = 7 * DAY
    appeal_window: int = 7 * DAY
    slash_limit: int = 3_000
    appeal_bond: int = 10 * OPEN
    # The name, the kind, the wait and the period of each pool that is open from the start.
    pools: tuple[tuple[str, PoolKind, int, int], ...] = (
        ("flexible", PoolKind.FLEXIBLE, 7 * DAY, 7 * DAY),
        ("locked", PoolKind.LOCKED, 90 * DAY, 7 * DAY),
    )


@dataclass(frozen=True)
class DeploySettings:
    """What can be chosen at deployment; afterwards the timelock changes it. Periods in seconds."""

    publisher: str
    guardian: str
    voting_delay: int = 5
    voting_period: int = 30
    late_quorum_extension: int = 5
    timelock_delay: int = 5
    distribution_delay: int = 0
    proposal_threshold: int = OPEN
    quorum_percent: int = 4
    split: tuple[int, int, int, int] = (1000, 2000, 2000, 5000)
    staking: StakeTerms = field(default_factory=StakeTerms)


@dataclass
class _Deployer:
    client: ChainClient
    signer: Signer
    chain_id: int
    nonce: int
    fees: Fees
    sent: list[tuple[str, str]] = field(default_factory=list)

    def create(self, name: str, *arguments: Any) -> str:
        code = artifacts.load(name).encode_constructor(*arguments)
        address = create_address(self.signer.address, self.nonce)
        self._send(name, None, code, CONSTRUCTOR_GAS + GAS_A_BYTE * len(code))
        return address

    def call(self, name: str, to: str, function: str, *arguments: Any) -> None:
        data = artifacts.load(name).encode_call(function, *arguments)
        self._send(f"{name}.{function}", to, data, CALL_GAS)

    def _send(self, what: str, to: str | None, data: bytes, gas: int) -> None:
        transaction: dict[str, Any] = {
            "type": 2, "chainId": self.chain_id, "nonce": self.nonce, "value": 0, "gas": gas,
            "maxFeePerGas": self.fees.maximum, "maxPriorityFeePerGas": self.fees.priority,
            "data": "0x" + data.hex(),
        }  # fmt: skip
        if to is not None:
            transaction["to"] = to
        signed = self.signer.sign(transaction)
        self.client.send_raw(signed.raw)
        self.sent.append((what, signed.hash))
        self.nonce += 1


def deploy(
    client: ChainClient,
    signer: Signer,
    settings: DeploySettings,
    *,
    path: Path,
    pause: Callable[[], None] = lambda: time.sleep(0.1),
    timeout: float = 120.0,
) -> Deployment:
    """The deployment at `path`, made where there is none on this chain.

    `pause` runs between looks for receipts (a test mines there). Raises IncompleteDeploymentError
    where the file lacks a contract, DeployError, ChainError.
    """
    known = read_deployment(path)
    if known is not None and is_deployed(client, known):
        return follow_registry(client, known, path)
    deployer = _Deployer(
        client, signer, client.chain_id(), client.nonce(signer.address, "pending"), client.fees()
    )
    start = client.block("latest")
    addresses = _create_all(deployer, settings)
    receipts = _wait(deployer, pause, timeout)
    genesis = client.block(0)
    deployment = Deployment(
        chain_id=deployer.chain_id,
        # Events from here on; the block before, since its number is known to be below them all.
        block=start.number if start else 0,
        genesis_hash=genesis.hash if genesis else "",
        addresses=addresses,
        settings=json.loads(json.dumps(asdict(settings))),
        gas=sum(receipt.gas_used for receipt in receipts),
    )
    if not is_deployed(client, deployment):
        raise DeployError("The contracts were deployed, but their code is not on the chain.")
    _write(deployment, path)
    return deployment


def follow_registry(client: ChainClient, known: Deployment, path: Path) -> Deployment:
    """`known` with the addresses that its registry has by now, written to `path` where they differ.

    Raises IncompleteDeploymentError where `known` lacks a contract of this release, ChainError.
    """
    if known.missing:
        raise IncompleteDeploymentError(
            f"{path} lacks {', '.join(known.missing)}: it was written by an earlier release."
        )
    addresses = {**known.addresses, **registered(client, known.address(REGISTRY))}
    if addresses == known.addresses:
        return known
    followed = replace(known, addresses=addresses)
    _write(followed, path)
    return followed


def registered(client: ChainClient, registry: str) -> dict[str, str]:
    """The contracts by name, as the registry at that address has them. Raises ChainError."""
    artifact = artifacts.load(REGISTRY)
    data = client.call(registry, artifact.encode_call("all"))
    names, places = artifact.decode_result("all", data)
    return {
        name.rstrip(b"\0").decode("ascii"): place for name, place in zip(names, places, strict=True)
    }


def name_word(name: str) -> bytes:
    """A name as a bytes32: ASCII with zeros behind, as Solidity writes a short literal."""
    return name.encode("ascii").ljust(32, b"\0")


def _write(deployment: Deployment, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(deployment.as_json(), indent=1) + "\n")
    scratch.replace(path)


def is_deployed(client: ChainClient, deployment: Deployment) -> bool:
    """Whether all of it is on this chain, which is the one that it was made for."""
    genesis = client.block(0)
    if client.chain_id() != deployment.chain_id:
        return False
    if genesis is None or genesis.hash != deployment.genesis_hash:
        return False
    return all(client.code(address) for address in deployment.addresses.values())


def create_address(sender: str, nonce: int) -> str:
    """The contract that `sender` creates with `nonce` stands at keccak(rlp([sender, nonce]))."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8)
    if nonce == 0:
        encoded = b"\x80"
    elif nonce < 0x80:
        encoded = number
    else:
        encoded = bytes([0x80 + len(number)]) + number
    body = b"\x94" + address_bytes(sender) + encoded
    return from_bytes(keccak256(bytes([0xC0 + len(body)]) + body)[12:])


def _create_all(deployer: _Deployer, settings: DeploySettings) -> dict[str, str]:
    me = deployer.signer.address
    timelock = deployer.create("Timelock", settings.timelock_delay, [], [ZERO_ADDRESS], me)
    token = deployer.create("GovernanceToken")
    governor = deployer.create(
        "OpenGovernor", token, timelock, settings.voting_delay, settings.voting_period,
        settings.proposal_threshold, settings.quorum_percent, settings.late_quorum_extension,
    )  # fmt: skip
    parameters = deployer.create("Parameters", timelock, settings.split)
    distributor = deployer.create(
        "RewardDistributor", timelock, settings.publisher, settings.guardian,
        settings.distribution_delay,
    )  # fmt: skip
    anchor = deployer.create("LogAnchor", timelock, settings.publisher)
    pools = _create_pools(deployer, timelock, settings)
    gateway = deployer.create(
        "Gateway", timelock, settings.publisher, settings.guardian, distributor, pools
    )
    for role in ("PROPOSER_ROLE", "CANCELLER_ROLE"):
        deployer.call("Timelock", timelock, "grantRole", keccak256(role.encode()), governor)
    deployer.call("Timelock", timelock, "renounceRole", b"\0" * 32, me)
    addresses = {
        "Timelock": timelock,
        "GovernanceToken": token,
        "OpenGovernor": governor,
        "Parameters": parameters,
        "RewardDistributor": distributor,
        "LogAnchor": anchor,
        "StakePools": pools,
        "Gateway": gateway,
    }
    # Last, since it refuses an address where no contract stands.
    registry = deployer.create(
        REGISTRY, timelock, [name_word(name) for name in addresses], [*addresses.values()]
    )
    return {**addresses, REGISTRY: registry}


def _create_pools(deployer: _Deployer, timelock: str, settings: DeploySettings) -> str:
    terms = settings.staking
    first = (
        terms.cooldown, terms.period, terms.appeal_window, terms.slash_limit, terms.appeal_bond
    )  # fmt: skip
    openings = [
        (name_word(name), int(kind), wait, period) for name, kind, wait, period in terms.pools
    ]
    # What is slashed goes to the timelock, so that the holders decide what becomes of it.
    return deployer.create(
        "StakePools", timelock, settings.publisher, settings.guardian, timelock, first, openings
    )


def _wait(deployer: _Deployer, pause: Callable[[], None], timeout: float) -> list[Receipt]:
    deadline = time.monotonic() + timeout
    receipts = []
    for what, tx_hash in deployer.sent:
        receipt = deployer.client.receipt(tx_hash)
        while receipt is None:
            if time.monotonic() > deadline:
                raise DeployError(f"{what} was not mined within {timeout:g} s ({tx_hash}).")
            pause()
            receipt = deployer.client.receipt(tx_hash)
        if not receipt.succeeded:
            raise DeployError(f"{what} failed on the chain ({tx_hash}).")
        receipts.append(receipt)
    return receipts
