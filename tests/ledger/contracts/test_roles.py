"""Each function is open to all, or to the roles named here and to nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.chain import artifacts
from ledger.chain.keccak import keccak256
from tests.chain_fixtures import ALICE, GUARDIAN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import EVIDENCE, FLEXIBLE, MODEL, as_timelock

WORD = b"\1" * 32
TIMELOCK = "timelock"
SENDERS = {"operator": OPERATOR, "guardian": GUARDIAN, "stranger": STRANGER}
REFUSED = ("AccessControlUnauthorizedAccount", "OwnableUnauthorizedAccount", "NotWriter",
           "TimelockUnauthorizedCaller", "GovernorOnlyExecutor")  # fmt: skip

# Who may call: the function, arguments that go past its first checks, and the roles.
ROLES: dict[str, list[tuple[str, tuple[Any, ...], set[str]]]] = {
    contract: [
        ("grantRole", (WORD, ALICE), {TIMELOCK}),
        ("revokeRole", (WORD, ALICE), {TIMELOCK}),
    ]
    for contract in ("RewardDistributor", "Gateway", "StakePools", "Timelock")
}
OWNED: list[tuple[str, tuple[Any, ...], set[str]]] = [
    ("transferOwnership", (ALICE,), {TIMELOCK}),
    ("renounceOwnership", (), {TIMELOCK}),
]
GUARDED = {
    "Parameters": [
        *OWNED,
        ("setSplit", ((0, 0, 0, 10_000),), {TIMELOCK}),
        ("set", ([WORD], [1]), {TIMELOCK}),
    ],
    "LogAnchor": [
        *OWNED,
        ("setWriter", (ALICE,), {TIMELOCK}),
        ("anchor", (1, 1, WORD), {"operator"}),
    ],
    "AddressRegistry": [*OWNED, ("set", ([WORD], [ALICE]), {TIMELOCK})],
    "RewardDistributor": [
        *ROLES["RewardDistributor"],
        ("publish", (1, 0, WORD, WORD), {"operator"}),
        ("revoke", (), {"guardian"}),
        ("setPaused", (True,), {"guardian"}),
        ("setPaused", (False,), {TIMELOCK}),
        ("setDelay", (1,), {TIMELOCK}),
    ],
    "Gateway": [
        *ROLES["Gateway"],
        ("withdraw", (WORD, []), {"operator"}),
        ("fundDistributor", (WORD, 1), {"operator"}),
        ("fundStakers", (WORD, MODEL, 1), {"operator"}),
        ("setPaused", (True,), {"guardian"}),
        ("setPaused", (False,), {TIMELOCK}),
        ("setDistributor", (ALICE,), {TIMELOCK}),
        ("setStakePools", (ALICE,), {TIMELOCK}),
    ],
    "StakePools": [
        *ROLES["StakePools"],
        ("proposeSlash", (FLEXIBLE, ALICE, 1, EVIDENCE), {"operator"}),
        ("cancelSlash", (1,), {"guardian", TIMELOCK}),
        ("setPaused", (True,), {"guardian"}),
        ("setPaused", (False,), {TIMELOCK}),
        ("openPool", ((WORD, 1, 1, 1),), {TIMELOCK}),
        ("setClosed", (FLEXIBLE, True), {TIMELOCK}),
        ("setPeriod", (FLEXIBLE, 1), {TIMELOCK}),
        ("setTerms", ((0, 1, 60, 0, 0),), {TIMELOCK}),
        ("setTreasury", (ALICE,), {TIMELOCK}),
    ],
    "Timelock": [
        *ROLES["Timelock"],
        ("updateDelay", (1,), {TIMELOCK}),
        ("schedule", (ALICE, 0, b"", WORD, WORD, 9), set()),
        ("scheduleBatch", ([], [], [], WORD, WORD, 9), set()),
        ("cancel", (WORD,), set()),
    ],
    "OpenGovernor": [
        ("setVotingDelay", (1,), {TIMELOCK}),
        ("setVotingPeriod", (1,), {TIMELOCK}),
        ("setProposalThreshold", (1,), {TIMELOCK}),
        ("setLateQuorumVoteExtension", (1,), {TIMELOCK}),
        ("updateQuorumNumerator", (1,), {TIMELOCK}),
        ("updateTimelock", (ALICE,), {TIMELOCK}),
        ("relay", (ALICE, 0, b""), {TIMELOCK}),
    ],
}
# Each of these asks about the caller's own money, votes or roles, or does for others only good.
OPEN_TO_ALL = {
    "GovernanceToken": {
        "approve", "delegate", "delegateBySig", "deposit", "depositAndDelegate", "permit",
        "transfer", "transferFrom", "withdraw",
    },
    "OpenGovernor": {
        "cancel", "castVote", "castVoteBySig", "castVoteWithReason", "castVoteWithReasonAndParams",
        "castVoteWithReasonAndParamsBySig", "execute", "propose", "queue",
        "onERC721Received", "onERC1155Received", "onERC1155BatchReceived",
    },
    "Timelock": {
        "execute", "executeBatch", "renounceRole",
        "onERC721Received", "onERC1155Received", "onERC1155BatchReceived",
    },
    "RewardDistributor": {"activate", "claim", "renounceRole"},
    "Gateway": {"deposit", "renounceRole"},
    "StakePools": {
        "appeal", "claim", "collectSlashed", "executeSlash", "fund", "renounceRole", "stake",
        "unstake", "withdraw",
    },
}  # fmt: skip
CASES = [(contract, *guarded) for contract, functions in GUARDED.items() for guarded in functions]


@pytest.mark.parametrize(
    ("contract", "function", "arguments", "roles"),
    CASES,
    ids=[f"{contract}.{function}{arguments}" for contract, function, arguments, _ in CASES],
)
def test_a_guarded_function_refuses_all_other_roles(
    chain: Chain, contract: str, function: str, arguments: tuple[Any, ...], roles: set[str]
) -> None:
    for role, sender in {**SENDERS, TIMELOCK: chain.address("Timelock")}.items():
        why = chain.reverts(sender, contract, function, *arguments)
        assert why.startswith(REFUSED) == (role not in roles), (role, why)


def test_every_function_that_writes_is_listed() -> None:
    listed = {
        name: OPEN_TO_ALL.get(name, set()) | {function for function, *_ in GUARDED.get(name, [])}
        for name in artifacts.CONTRACTS
    }
    written = {
        name: {
            entry["name"]
            for entry in artifacts.load(name).abi
            if entry["type"] == "function" and entry["stateMutability"] in ("payable", "nonpayable")
        }
        for name in artifacts.CONTRACTS
    }
    assert listed == written


def test_the_guardian_holds_no_role_that_moves_money(chain: Chain) -> None:
    for contract in ("RewardDistributor", "Gateway", "StakePools"):
        for role in ("OPERATOR_ROLE", "PUBLISHER_ROLE", "SLASHER_ROLE"):
            assert not chain.read(contract, "hasRole", keccak256(role.encode()), GUARDIAN)
        assert chain.read(contract, "hasRole", keccak256(b"GUARDIAN_ROLE"), GUARDIAN)


def test_the_timelock_replaces_who_holds_a_role(chain: Chain) -> None:
    timelock = as_timelock(chain)
    role = keccak256(b"SLASHER_ROLE")
    chain.send(timelock, "StakePools", "revokeRole", role, OPERATOR)
    chain.send(timelock, "StakePools", "grantRole", role, ALICE)
    call = ("proposeSlash", FLEXIBLE, STRANGER, 1, EVIDENCE)
    assert chain.reverts(OPERATOR, "StakePools", *call).startswith(REFUSED)
    assert chain.reverts(ALICE, "StakePools", *call) == "ZeroAmount()"
