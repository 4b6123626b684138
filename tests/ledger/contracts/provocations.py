"""How each error of each contract is provoked: a call on a fresh chain, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.chain import artifacts
from ledger.chain.client import RpcError
from ledger.chain.keccak import keccak256
from tests.chain_fixtures import (
    ALICE,
    BOB,
    CAROL,
    OPEN,
    OPERATOR,
    STRANGER,
    TIMELOCK_DELAY,
    VOTING_DELAY,
    VOTING_PERIOD,
    Chain,
)
from tests.ledger.contracts.tools import (
    BOND,
    EVIDENCE,
    FLEXIBLE,
    LOCKED,
    POOLS,
    REFUSES,
    TERM,
    WINDOW,
    Hostile,
    Mode,
    as_timelock,
    claim,
    claim_arguments,
    fund,
    propose_slash,
    publish,
    publish_arguments,
    set_paused,
    stake,
    tree_of,
)

Provocation = Callable[[Chain], str]
WORD, EMPTY = b"\1" * 32, bytes(32)
SECONDS = 2**32
MUCH = 2**209


def call(contract: str, sender: str, function: str, *values: Any, value: int = 0) -> Provocation:
    """A call that reverts on a fresh chain already. The name "timelock" stands for its address."""

    def provoke(chain: Chain) -> str:
        who = chain.address("Timelock") if sender == "timelock" else sender
        return chain.reverts(who, contract, function, *values, value=value)

    return provoke


def raw(chain: Chain, to: str, data: bytes = b"", **fields: Any) -> str:
    """Why a call with these fields reverts."""
    asked = {"to": to, "data": "0x" + data.hex()} | fields
    try:
        chain.client.rpc("eth_call", asked, "latest")
    except RpcError as error:
        return artifacts.explain_revert(error.data)
    return ""


def rich(chain: Chain, account: str) -> str:
    chain.client.rpc("anvil_setBalance", account, hex(2**220))
    return account


# -------------------------------------------------------------------- governance


def wrapped(chain: Chain) -> str:
    chain.send(ALICE, "GovernanceToken", "depositAndDelegate", ALICE, value=100 * OPEN)
    chain.warp(1)
    return ALICE


def motion(chain: Chain, contract: str, function: str, *values: Any) -> tuple[Any, ...]:
    data = artifacts.load(contract).encode_call(function, *values)
    return [chain.address(contract)], [0], [data]


def proposed(chain: Chain, *action: Any) -> tuple[int, tuple[Any, ...]]:
    """A proposal that ALICE, who holds all votes, has made; its number and its arguments."""
    holder = wrapped(chain)
    arguments = motion(chain, *(action or ("Parameters", "setSplit", (0, 0, 0, 10_000))))
    receipt = chain.send(holder, "OpenGovernor", "propose", *arguments, "why")
    return chain.events(receipt)[0][1]["proposalId"], (*arguments, keccak256(b"why"))


def voted(chain: Chain, *action: Any) -> tuple[Any, ...]:
    number, arguments = proposed(chain, *action)
    chain.warp(VOTING_DELAY + 1)
    chain.send(ALICE, "OpenGovernor", "castVote", number, 1)
    chain.warp(VOTING_PERIOD + 1)
    return arguments


def executing(*action: Any) -> Provocation:
    """The governor does to itself what only a whole proposal can make it do."""

    def provoke(chain: Chain) -> str:
        arguments = voted(chain, *action)
        chain.send(STRANGER, "OpenGovernor", "queue", *arguments)
        chain.warp(TIMELOCK_DELAY + 1)
        return chain.reverts(STRANGER, "OpenGovernor", "execute", *arguments)

    return provoke


def voting_twice(chain: Chain) -> str:
    number, _ = proposed(chain)
    chain.warp(VOTING_DELAY + 1)
    chain.send(ALICE, "OpenGovernor", "castVote", number, 1)
    return chain.reverts(ALICE, "OpenGovernor", "castVote", number, 1)


def voting_a_fourth_way(chain: Chain) -> str:
    number, _ = proposed(chain)
    chain.warp(VOTING_DELAY + 1)
    return chain.reverts(ALICE, "OpenGovernor", "castVote", number, 3)


def voting_by_a_wrong_signature(chain: Chain) -> str:
    number, _ = proposed(chain)
    chain.warp(VOTING_DELAY + 1)
    return chain.reverts(BOB, "OpenGovernor", "castVoteBySig", number, 1, ALICE, b"\1" * 65)


def queueing_before_the_vote(chain: Chain) -> str:
    _, arguments = proposed(chain)
    return chain.reverts(BOB, "OpenGovernor", "queue", *arguments)


def queueing_for_an_age(chain: Chain) -> str:
    arguments = voted(chain)
    chain.send(as_timelock(chain), "Timelock", "updateDelay", 2**60)
    return chain.reverts(BOB, "OpenGovernor", "queue", *arguments)


def cancelling_anothers(chain: Chain) -> str:
    _, arguments = proposed(chain)
    return chain.reverts(BOB, "OpenGovernor", "cancel", *arguments)


def proposing_in_anothers_name(chain: Chain) -> str:
    arguments = motion(chain, "Parameters", "setSplit", (0, 0, 0, 10_000))
    return chain.reverts(
        wrapped(chain), "OpenGovernor", "propose", *arguments, f"why#proposer={BOB.lower()}"
    )


def proposing_without_votes(chain: Chain) -> str:
    arguments = motion(chain, "Parameters", "setSplit", (0, 0, 0, 10_000))
    return chain.reverts(BOB, "OpenGovernor", "propose", *arguments, "why")


def proposing_half_an_action(chain: Chain) -> str:
    return chain.reverts(
        wrapped(chain), "OpenGovernor", "propose", [chain.address("Gateway")], [], [], "why"
    )


def relaying_to_who_refuses(chain: Chain) -> str:
    hostile = Hostile(chain, CAROL)
    hostile.arm(Mode.REFUSE)
    return executing("OpenGovernor", "relay", hostile.address, 0, b"")(chain)


def paying_the_governor(chain: Chain) -> str:
    return raw(chain, chain.address("OpenGovernor"), value=hex(1), **{"from": ALICE})


def scheduled(chain: Chain, target: str, predecessor: bytes = EMPTY) -> tuple[Any, ...]:
    """An operation of the timelock that may be executed, as if the governor had decided it."""
    governor = chain.address("OpenGovernor")
    chain.client.rpc("anvil_impersonateAccount", governor)
    chain.client.rpc("anvil_setBalance", governor, hex(OPEN))
    arguments = (target, 0, b"", predecessor, EMPTY)
    chain.send(governor, "Timelock", "schedule", *arguments, TIMELOCK_DELAY)
    chain.warp(TIMELOCK_DELAY + 1)
    return arguments


def executing_who_refuses(chain: Chain) -> str:
    hostile = Hostile(chain, CAROL)
    hostile.arm(Mode.REFUSE)
    return chain.reverts(STRANGER, "Timelock", "execute", *scheduled(chain, hostile.address))


def executing_out_of_order(chain: Chain) -> str:
    return chain.reverts(STRANGER, "Timelock", "execute", *scheduled(chain, ALICE, WORD))


def by_the_governor(function: str, *values: Any) -> Provocation:
    return lambda chain: chain.reverts(chain.address("OpenGovernor"), "Timelock", function, *values)


def unwrapping_for_who_refuses(chain: Chain) -> str:
    chain.send(BOB, "GovernanceToken", "deposit", value=OPEN)
    chain.install_code(BOB, REFUSES)
    return chain.reverts(BOB, "GovernanceToken", "withdraw", OPEN)


# ------------------------------------------------------------------------- money


def overfull_tree(chain: Chain) -> str:
    fund(chain, 2 * OPEN)
    tree = tree_of(chain, {ALICE: 2 * OPEN, BOB: 2 * OPEN})
    chain.send(OPERATOR, "RewardDistributor", "publish", 1, 2 * OPEN, tree.root, WORD)
    claim(chain, tree, ALICE, sender=STRANGER)
    return chain.reverts(STRANGER, "RewardDistributor", "claim", *claim_arguments(tree, BOB))


def pending_root(chain: Chain) -> tuple[Any, ...]:
    chain.send(as_timelock(chain), "RewardDistributor", "setDelay", 60)
    fund(chain, OPEN)
    arguments = publish_arguments(chain, tree_of(chain, {ALICE: OPEN}), 1)
    chain.send(OPERATOR, "RewardDistributor", "publish", *arguments)
    return arguments


def activating_too_soon(chain: Chain) -> str:
    pending_root(chain)
    return chain.reverts(STRANGER, "RewardDistributor", "activate")


def claiming(chain: Chain, *, more: int = 0, twice: bool = False, paused: bool = False) -> str:
    fund(chain, OPEN)
    tree = publish(chain, {ALICE: OPEN}, 1)
    if twice:
        claim(chain, tree, ALICE, sender=STRANGER)
    if paused:
        set_paused(chain, "RewardDistributor", paused=True)
    account, cumulative, proof = claim_arguments(tree, ALICE)
    return chain.reverts(
        STRANGER, "RewardDistributor", "claim", account, int(str(cumulative)) + more, proof
    )


def claiming_for_who_refuses(chain: Chain) -> str:
    hostile = Hostile(chain, CAROL)
    hostile.arm(Mode.REFUSE)
    fund(chain, OPEN)
    tree = publish(chain, {hostile.address: OPEN}, 1)
    arguments = claim_arguments(tree, hostile.address)
    return chain.reverts(STRANGER, "RewardDistributor", "claim", *arguments)


def a_falling_total(chain: Chain) -> str:
    fund(chain, OPEN)
    publish(chain, {ALICE: OPEN}, 1)
    return chain.reverts(OPERATOR, "RewardDistributor", "publish", 2, OPEN - 1, WORD, WORD)


def deposited(chain: Chain) -> Chain:
    chain.send(ALICE, "Gateway", "deposit", WORD, value=OPEN)
    return chain


def paying_twice(chain: Chain) -> str:
    deposited(chain).send(OPERATOR, "Gateway", "withdraw", WORD, [(BOB, 1)])
    return chain.reverts(OPERATOR, "Gateway", "withdraw", WORD, [(BOB, 1)])


def paying_with_little_gas(chain: Chain) -> str:
    data = artifacts.load("Gateway").encode_call("withdraw", WORD, [(BOB, 1)] * 3)
    gateway = deposited(chain).address("Gateway")
    return raw(chain, gateway, data, gas=hex(130_000), **{"from": OPERATOR})


def paying_while_paused(chain: Chain) -> str:
    set_paused(deposited(chain), "Gateway", paused=True)
    return chain.reverts(OPERATOR, "Gateway", "withdraw", WORD, [(BOB, 1)])


def funding_who_refuses(chain: Chain) -> str:
    hostile = Hostile(deposited(chain), CAROL)
    hostile.arm(Mode.REFUSE)
    chain.send(as_timelock(chain), "Gateway", "setDistributor", hostile.address)
    return chain.reverts(OPERATOR, "Gateway", "fundDistributor", WORD, 1)


# ------------------------------------------------------------------------ stakes


def slash(chain: Chain, pool: bytes = FLEXIBLE) -> int:
    """A slash of ALICE's stake of 10 OPEN that waits."""
    stake(chain, ALICE, 10 * OPEN, pool)
    if pool == LOCKED:
        chain.warp(TERM)
    return propose_slash(chain, ALICE, 1_000, pool)


def with_slash(
    sender: str, function: str, *values: Any, value: int = 0, after: int = 0
) -> Provocation:
    """A call that names the slash first, `after` seconds from its proposal."""

    def provoke(chain: Chain) -> str:
        number = slash(chain)
        chain.warp(after)
        return chain.reverts(sender, POOLS, function, number, *values, value=value)

    return provoke


def slashing_twice(chain: Chain) -> str:
    slash(chain)
    return chain.reverts(OPERATOR, POOLS, "proposeSlash", FLEXIBLE, ALICE, 1, EVIDENCE)


def leaving_under_a_slash(chain: Chain) -> str:
    slash(chain, LOCKED)
    return chain.reverts(ALICE, POOLS, "unstake", LOCKED, 10 * OPEN)


def appealing_twice(chain: Chain) -> str:
    number = slash(chain)
    chain.send(ALICE, POOLS, "appeal", number, WORD, value=BOND)
    return chain.reverts(ALICE, POOLS, "appeal", number, WORD, value=BOND)


def staking_in_a_closed_pool(chain: Chain) -> str:
    chain.send(as_timelock(chain), POOLS, "setClosed", FLEXIBLE, True)
    return chain.reverts(ALICE, POOLS, "stake", FLEXIBLE, value=1)


def staking_while_paused(chain: Chain) -> str:
    set_paused(chain, POOLS, paused=True)
    return chain.reverts(ALICE, POOLS, "stake", FLEXIBLE, value=1)


def leaving_too_soon(chain: Chain) -> str:
    stake(chain, ALICE, OPEN, LOCKED)
    return chain.reverts(ALICE, POOLS, "unstake", LOCKED, OPEN)


def returning_to_who_refuses(chain: Chain) -> str:
    hostile = Hostile(chain, CAROL)
    hostile.run(POOLS, "stake", LOCKED, value=OPEN)
    hostile.arm(Mode.REFUSE)
    chain.warp(TERM)
    return hostile.reverts(POOLS, "unstake", LOCKED, OPEN)


def appealing_late() -> Provocation:
    return with_slash(ALICE, "appeal", WORD, value=BOND, after=WINDOW)
