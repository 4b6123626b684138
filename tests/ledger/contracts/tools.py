"""Recipients with a mind of their own, and trees for the distributor."""

from __future__ import annotations

import hashlib

from ledger.chain import distribution
from ledger.chain.client import Receipt
from tests.chain_fixtures import OPERATOR, Chain

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
