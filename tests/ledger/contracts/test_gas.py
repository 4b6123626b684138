"""What the contracts cost, kept in a file: a change that makes one dearer is seen.

`UPDATE_GAS=1 pytest tests/ledger/contracts/test_gas.py` writes the file anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ledger.chain.client import Receipt
from ledger.chain.distribution import leaf
from ledger.chain.keccak import keccak256
from ledger.chain.local import DEV_ADDRESSES
from tests.chain_fixtures import (
    ALICE,
    BOB,
    OPEN,
    OPERATOR,
    STRANGER,
    TIMELOCK_DELAY,
    VOTING_DELAY,
    VOTING_PERIOD,
    Chain,
)
from tests.ledger.contracts.test_governance_contracts import TEXT, motion
from tests.ledger.contracts.tools import (
    COOLDOWN,
    DAY,
    FLEXIBLE,
    MODEL,
    POOLS,
    WINDOW,
    as_timelock,
    fund,
    fund_pool,
    propose_slash,
    stake,
)

SNAPSHOT = Path(__file__).with_name("gas.json")
DISTRIBUTOR = "RewardDistributor"
FIRST, SECOND = "0x" + "1a" * 20, "0x" + "2b" * 20
# A proof of 20 elements, as in a tree of a million leaves.
SIBLINGS = [keccak256(bytes([number])) for number in range(20)]


def publish_for(chain: Chain, account: str, cumulative: int, epoch: int) -> None:
    """A root under which `account` has a leaf at the end of a proof of 20 elements."""
    address = chain.address(DISTRIBUTOR)
    node = leaf(chain_id=31337, distributor=address, account=account, cumulative=cumulative)
    for sibling in SIBLINGS:
        node = keccak256(min(node, sibling) + max(node, sibling))
    chain.send(OPERATOR, DISTRIBUTOR, "publish", epoch, 900 * OPEN, node, keccak256(b"data"))


def claim_for(chain: Chain, account: str, cumulative: int) -> Receipt:
    return chain.send(STRANGER, DISTRIBUTOR, "claim", account, cumulative, SIBLINGS)


def distributor_costs(chain: Chain) -> dict[str, Receipt]:
    fund(chain, 1000 * OPEN)
    costs = {}
    # The very first claim also opens the slot of the sum; steady state begins with the second.
    publish_for(chain, FIRST, OPEN, 1)
    claim_for(chain, FIRST, OPEN)
    publish_for(chain, SECOND, OPEN, 2)
    costs["root without a delay"] = last_receipt(chain)
    costs["claim to a fresh account, 20-element proof"] = claim_for(chain, SECOND, OPEN)
    publish_for(chain, SECOND, 2 * OPEN, 3)
    costs["claim again, 20-element proof"] = claim_for(chain, SECOND, 2 * OPEN)
    chain.send(as_timelock(chain), DISTRIBUTOR, "setDelay", 10)
    for epoch in (4, 5):
        publish_for(chain, SECOND, 3 * OPEN, epoch)
        costs["propose a root with a delay"] = last_receipt(chain)
        chain.warp(11)
        costs["activate a root"] = chain.send(STRANGER, DISTRIBUTOR, "activate")
    return costs


def last_receipt(chain: Chain) -> Receipt:
    block = chain.client.rpc("eth_getBlockByNumber", "latest", False)
    receipt = chain.client.receipt(block["transactions"][-1])
    assert receipt is not None
    return receipt


def anchor_and_gateway_costs(chain: Chain) -> dict[str, Receipt]:
    chain.send(OPERATOR, "LogAnchor", "anchor", 1, 10, keccak256(b"1"))
    costs = {"anchor": chain.send(OPERATOR, "LogAnchor", "anchor", 2, 20, keccak256(b"2"))}
    costs["deposit"] = chain.send(ALICE, "Gateway", "deposit", b"\1" * 32, value=OPEN)
    known = [(address, 1000) for address in DEV_ADDRESSES] * 10
    costs["withdraw to 100 known"] = chain.send(OPERATOR, "Gateway", "withdraw", b"\1" * 32, known)
    return costs


def governance_costs(chain: Chain) -> dict[str, Receipt]:
    costs = {
        "wrap and delegate": chain.send(
            ALICE, "GovernanceToken", "depositAndDelegate", ALICE, value=10 * OPEN
        )
    }
    costs["wrap again"] = chain.send(ALICE, "GovernanceToken", "deposit", value=OPEN)
    chain.warp(1)
    costs["propose"] = chain.send(ALICE, "OpenGovernor", "propose", *motion(chain), TEXT)
    proposal = chain.events(costs["propose"])[0][1]["proposalId"]
    chain.warp(VOTING_DELAY + 1)
    costs["vote"] = chain.send(ALICE, "OpenGovernor", "castVote", proposal, 1)
    chain.warp(VOTING_PERIOD + 1)
    arguments = (*motion(chain), keccak256(TEXT.encode()))
    costs["queue"] = chain.send(STRANGER, "OpenGovernor", "queue", *arguments)
    chain.warp(TIMELOCK_DELAY + 1)
    costs["execute"] = chain.send(STRANGER, "OpenGovernor", "execute", *arguments)
    return costs


def pools_costs(chain: Chain) -> dict[str, Receipt]:
    """A pool in use: somebody else is staked, something streams, the sums are not zero."""
    stake(chain, BOB, OPEN)
    fund_pool(chain, OPEN)
    chain.warp(DAY)
    costs = {"stake for the first time": stake(chain, ALICE, 10 * OPEN)}
    chain.warp(DAY)
    costs["stake more"] = stake(chain, ALICE, OPEN)
    costs["fund a pool"] = fund_pool(chain, OPEN)
    chain.warp(DAY)
    costs["claim rewards"] = chain.send(STRANGER, POOLS, "claim", FLEXIBLE, ALICE)
    costs["unstake"] = chain.send(ALICE, POOLS, "unstake", FLEXIBLE, OPEN)
    chain.warp(COOLDOWN)
    costs["withdraw a stake"] = chain.send(ALICE, POOLS, "withdraw", FLEXIBLE)
    number = propose_slash(chain, ALICE, 1_000)
    costs["propose a slash"] = last_receipt(chain)
    chain.warp(WINDOW)
    costs["carry out a slash"] = chain.send(STRANGER, POOLS, "executeSlash", number)
    chain.send(ALICE, "Gateway", "deposit", b"\1" * 32, value=5 * OPEN)
    for name in ("fund a model's new pool by the Gateway", "fund stakers by the Gateway"):
        batch = keccak256(name.encode())
        costs[name] = chain.send(OPERATOR, "Gateway", "fundStakers", batch, MODEL, OPEN)
    return costs


LIMITS = {
    "root without a delay": 42_000,
    "propose a root with a delay": 82_000,
    "activate a root": 38_500,
    "anchor": 36_000,
    "claim to a fresh account, 20-element proof": 106_500,
    "claim again, 20-element proof": 64_500,
}


def test_no_call_costs_more_than_it_did_or_than_it_may(chain: Chain) -> None:
    costs = distributor_costs(chain) | anchor_and_gateway_costs(chain) | governance_costs(chain)
    costs |= pools_costs(chain)
    used = {name: receipt.gas_used for name, receipt in costs.items()}
    if os.environ.get("UPDATE_GAS"):
        SNAPSHOT.write_text(json.dumps(used, indent=1) + "\n")
    known = json.loads(SNAPSHOT.read_text())
    assert sorted(used) == sorted(known)
    # Addresses with zero bytes in them make calldata cheaper by some gas from run to run.
    dearer = {name: (known[name], gas) for name, gas in used.items() if gas > known[name] + 300}
    assert not dearer, f"dearer than in gas.json: {dearer}"
    # A snapshot that is written anew must not creep past these.
    above = {name: (used[name], limit) for name, limit in LIMITS.items() if used[name] > limit}
    assert not above, f"above the limit: {above}"
