"""Walks a proposal from wrapping to execution on the local chain, without a browser.

For commands and workers alone, since it imports web3; `manage.py tour` calls it. It signs with one
of the local chain's own development keys and waits real seconds: nothing is done to the clock. The
key is not the one of the ledger's sender, whose nonces must not be disturbed.

    from governance import headless
    headless.change_split({"platform": 1000, "model_owner": 2000, "stakers": 1900,
                           "contributors": 5100}, report=print)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from governance.motions import Motion, split_motion, values_motion
from governance.selectors import current_parameters
from ledger.chain import artifacts
from ledger.chain.client import ChainClient, Receipt, RpcError
from ledger.chain.deployment import Deployment
from ledger.chain.local import DEV_KEYS, LOCAL_CHAIN_ID
from ledger.chain.signers import KeySigner
from ledger.onchain import require_deployment
from ledger.words import open_text
from ledger.workers import node

# The sender has the first development key, the guardian the second.
HOLDER_KEY = DEV_KEYS[2]
OPEN = 10**18
GAS_LIMIT = 1_000_000
POLL_SECONDS = 0.5
FOR = 1
SUCCEEDED, QUEUED, EXECUTED = 4, 5, 7

Report = Callable[[str], None]


class HeadlessError(RuntimeError):
    """A step of the walk did not happen; says which and why."""


@dataclass(frozen=True)
class Walk:
    """What was done: the proposal's number, and each step's transaction in order."""

    number: str
    holder: str
    transactions: Mapping[str, str]
    seconds: float


def change_split(
    split: Mapping[str, int],
    *,
    report: Report = lambda line: None,
    timeout: float = 300.0,
) -> Walk:
    """Have `split` (basis points by receiver) proposed, voted, queued and executed.

    Raises HeadlessError, ledger.errors.WaitingForChain, ledger.chain.client.ChainError. What the
    change means for fees is mirrored a few seconds later, once its block is final.
    """
    told = f"Change the fee split\n\nWalked headless at {int(time.time())}."
    return _walk(lambda deployment: split_motion(deployment, split, told), report, timeout)


def change_values(
    values: Mapping[str, int],
    *,
    report: Report = lambda line: None,
    timeout: float = 300.0,
) -> Walk:
    """Have governed numbers (by key) proposed, voted, queued and executed, as `change_split`."""
    told = f"Change governed values\n\nWalked headless at {int(time.time())}."
    set_before = current_parameters().values
    changes = {key: (set_before.get(key), value) for key, value in values.items()}
    return _walk(lambda deployment: values_motion(deployment, changes, told), report, timeout)


def _walk(make: Callable[[Deployment], Motion], report: Report, timeout: float) -> Walk:
    if settings.CHAIN_ID != LOCAL_CHAIN_ID:
        raise HeadlessError("Only on the local chain are there development keys to vote with.")
    holder = Holder(node(), require_deployment(), HOLDER_KEY, report)
    began = time.monotonic()
    holder.gather_votes()
    number = holder.decide(make(holder.deployment), began + timeout)
    return Walk(str(number), holder.address, holder.transactions, time.monotonic() - began)


class Holder:
    """One holder of GOPEN who signs with a key of the local chain."""

    def __init__(
        self, client: ChainClient, deployment: Deployment, key: str, report: Report
    ) -> None:
        self.client = client
        self.deployment = deployment
        self.signer = KeySigner(key, chain_id=LOCAL_CHAIN_ID)
        self.address = self.signer.address
        self.report = report
        self.transactions: dict[str, str] = {}

    def gather_votes(self) -> None:
        """Wrap OPEN and delegate to oneself until the votes are enough to propose and to win."""
        supply = self.read("GovernanceToken", "totalSupply")
        threshold = self.read("OpenGovernor", "proposalThreshold")
        wanted = max(10 * OPEN, 2 * threshold, supply // 5)
        votes = self.read("GovernanceToken", "getVotes", self.address)
        if votes >= wanted:
            self.report(f"{self.address} has {open_text(votes)} votes already")
            return
        missing = wanted - votes
        self.send("wrap", "GovernanceToken", "depositAndDelegate", self.address, value=missing)
        self.report(f"wrapped {open_text(missing)} OPEN and delegated to itself")

    def decide(self, motion: Motion, deadline: float) -> int:
        """Propose, vote for, queue and execute; returns the proposal's number."""
        # Votes count from the second after they were delegated.
        self._wait_until(self._now() + 1, deadline)
        receipt = self.send("propose", "OpenGovernor", "propose", *motion.propose_arguments)
        number = self._number_in(receipt)
        self.report(f"proposed {number}")
        self._wait_until(self.read("OpenGovernor", "proposalSnapshot", number), deadline)
        self.send("vote", "OpenGovernor", "castVote", number, FOR)
        self.report("voted for")
        # Reaching the quorum late moves the end, so it is read after the vote.
        self._wait_until(self.read("OpenGovernor", "proposalDeadline", number), deadline)
        self._expect(number, SUCCEEDED, "accepted")
        self.send("queue", "OpenGovernor", "queue", *motion.later_arguments)
        self._expect(number, QUEUED, "queued")
        self._wait_until(self.read("OpenGovernor", "proposalEta", number) - 1, deadline)
        self.send("execute", "OpenGovernor", "execute", *motion.later_arguments)
        self._expect(number, EXECUTED, "executed")
        return number

    def read(self, contract: str, function: str, *values: Any) -> Any:
        """What a view with one result returns."""
        artifact = artifacts.load(contract)
        data = self.client.call(
            self.deployment.address(contract), artifact.encode_call(function, *values)
        )
        return artifact.decode_result(function, data)[0]

    def send(
        self, step: str, contract: str, function: str, *values: Any, value: int = 0
    ) -> Receipt:
        """Sign and send one call and wait for its block. Raises HeadlessError where it reverts."""
        to = self.deployment.address(contract)
        data = artifacts.load(contract).encode_call(function, *values)
        try:
            self.client.call(to, data, sender=self.address, value=value)
        except RpcError as error:
            why = artifacts.explain_revert(error.data) if error.data else error.message
            raise HeadlessError(f"{step}: {why}") from error
        fees = self.client.fees()
        signed = self.signer.sign(
            {
                "type": 2,
                "chainId": LOCAL_CHAIN_ID,
                "nonce": self.client.nonce(self.address, "pending"),
                "to": to,
                "data": "0x" + data.hex(),
                "value": value,
                "gas": GAS_LIMIT,
                "maxFeePerGas": fees.maximum,
                "maxPriorityFeePerGas": fees.priority,
            }
        )
        self.client.send_raw(signed.raw)
        receipt = self._mined(step, signed.hash)
        self.transactions[step] = signed.hash
        return receipt

    def _mined(self, step: str, tx_hash: str, patience: float = 60.0) -> Receipt:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            receipt = self.client.receipt(tx_hash)
            if receipt is not None:
                if not receipt.succeeded:
                    raise HeadlessError(f"{step}: the contract refused it in its block ({tx_hash})")
                return receipt
            time.sleep(POLL_SECONDS)
        raise HeadlessError(f"{step}: not in a block after {patience:g} s ({tx_hash})")

    def _number_in(self, receipt: Receipt) -> int:
        governor = artifacts.load("OpenGovernor")
        for log in receipt.logs:
            decoded = governor.decode_log(log.topics, log.data)
            if decoded is not None and decoded[0] == "ProposalCreated":
                return int(decoded[1]["proposalId"])
        raise HeadlessError("propose: the block holds no proposal")

    def _expect(self, number: int, state: int, word: str) -> None:
        now = self.read("OpenGovernor", "state", number)
        if now != state:
            raise HeadlessError(f"the proposal is not {word}: the Governor says state {now}")
        self.report(word)

    def _now(self) -> int:
        block = self.client.block("latest")
        return block.timestamp if block else 0

    def _wait_until(self, second: int, deadline: float) -> None:
        """Wait until the chain's clock is past `second`."""
        while self._now() <= second:
            if time.monotonic() > deadline:
                raise HeadlessError("the chain's clock did not get there in time")
            time.sleep(POLL_SECONDS)
