"""Every error that a contract can throw is thrown here once, or it stands below why it cannot be.

A new error in a source changes its ABI and fails the last test until somebody provokes it.
"""

from __future__ import annotations

import pytest

from ledger.chain import artifacts
from ledger.chain.addresses import ZERO_ADDRESS
from ledger.chain.deploy import name_word
from tests.chain_fixtures import ALICE, BOB, OPERATOR, STRANGER, Chain
from tests.ledger.contracts import provocations as by
from tests.ledger.contracts.provocations import EMPTY, MUCH, SECONDS, WORD, Provocation, call
from tests.ledger.contracts.tools import BOND, EVIDENCE, FLEXIBLE, POOLS

DAY = 86_400


def owned(contract: str) -> dict[str, Provocation]:
    """What OpenZeppelin's Ownable throws."""
    return {
        "OwnableUnauthorizedAccount": call(contract, ALICE, "renounceOwnership"),
        "OwnableInvalidOwner": call(contract, "timelock", "transferOwnership", ZERO_ADDRESS),
    }


def with_roles(contract: str) -> dict[str, Provocation]:
    """What OpenZeppelin's AccessControl throws."""
    return {
        "AccessControlUnauthorizedAccount": call(contract, ALICE, "grantRole", EMPTY, ALICE),
        "AccessControlBadConfirmation": call(contract, ALICE, "renounceRole", EMPTY, BOB),
    }


def registry(*values: object) -> Provocation:
    return call("AddressRegistry", "timelock", "set", *values)


def pools(sender: str, function: str, *values: object, value: int = 0) -> Provocation:
    return call(POOLS, sender, function, *values, value=value)


PROVOKED: dict[str, dict[str, Provocation]] = {
    "AddressRegistry": owned("AddressRegistry")
    | {
        "EmptyName": lambda chain: registry([EMPTY], [chain.address("Gateway")])(chain),
        "LengthMismatch": registry([], []),
        "NotAContract": registry([WORD], [ALICE]),
        "Unchanged": lambda chain: registry([name_word("Gateway")], [chain.address("Gateway")])(
            chain
        ),
        "UnknownName": call("AddressRegistry", ALICE, "get", WORD),
    },
    "Parameters": owned("Parameters")
    | {
        "LengthMismatch": call("Parameters", "timelock", "set", [], []),
        "PartOfSplit": call("Parameters", "timelock", "set", [name_word("split.stakers")], [1]),
        "SplitNotWhole": call("Parameters", "timelock", "setSplit", (1, 0, 0, 0)),
        "Unchanged": call("Parameters", "timelock", "set", [WORD], [0]),
    },
    "LogAnchor": owned("LogAnchor")
    | {
        "EmptyRoot": call("LogAnchor", OPERATOR, "anchor", 1, 1, EMPTY),
        "NotWriter": call("LogAnchor", ALICE, "anchor", 1, 1, WORD),
        "SequenceNotAfter": call("LogAnchor", OPERATOR, "anchor", 0, 1, WORD),
        "SizeNotAfter": call("LogAnchor", OPERATOR, "anchor", 1, 0, WORD),
    },
    "Gateway": with_roles("Gateway")
    | {
        "AlreadyPaid": by.paying_twice,
        "BatchSize": call("Gateway", OPERATOR, "withdraw", WORD, []),
        "NoAccount": call("Gateway", ALICE, "deposit", EMPTY, value=1),
        "NotEnough": call("Gateway", OPERATOR, "withdraw", WORD, [(BOB, 1)]),
        "NotEnoughGas": by.paying_with_little_gas,
        "PaymentsPaused": by.paying_while_paused,
        "TransferFailed": by.funding_who_refuses,
        "ZeroAmount": call("Gateway", ALICE, "deposit", WORD),
    },
    "RewardDistributor": with_roles("RewardDistributor")
    | {
        "ClaimsPaused": lambda chain: by.claiming(chain, paused=True),
        "DelayTooLong": call("RewardDistributor", "timelock", "setDelay", 31 * DAY),
        "EmptyRoot": call("RewardDistributor", OPERATOR, "publish", 1, 0, EMPTY, WORD),
        "Insolvent": call("RewardDistributor", OPERATOR, "publish", 1, 1, WORD, WORD),
        "NothingPending": call("RewardDistributor", STRANGER, "activate"),
        "NothingToClaim": lambda chain: by.claiming(chain, twice=True),
        "OverTotal": by.overfull_tree,
        "RootPending": lambda chain: chain.reverts(
            OPERATOR, "RewardDistributor", "publish", *by.pending_root(chain)
        ),
        "TooEarly": by.activating_too_soon,
        "TotalFell": by.a_falling_total,
        "TransferFailed": by.claiming_for_who_refuses,
        "WrongEpoch": call("RewardDistributor", OPERATOR, "publish", 2, 0, WORD, WORD),
        "WrongProof": lambda chain: by.claiming(chain, more=1),
    },
    POOLS: with_roles(POOLS)
    | {
        "AppealOpen": by.with_slash(STRANGER, "executeSlash"),
        "AppealOver": by.appealing_late(),
        "AppealedBefore": by.appealing_twice,
        "HeldBySlash": by.leaving_under_a_slash,
        "NoEvidence": pools(OPERATOR, "proposeSlash", FLEXIBLE, ALICE, 1, EMPTY),
        "NoKind": pools("timelock", "openPool", (WORD, 0, 1, 1)),
        "NotEnoughStaked": pools(ALICE, "unstake", FLEXIBLE, 1),
        "NotTheirs": by.with_slash(BOB, "appeal", WORD, value=BOND),
        "NothingToClaim": pools(STRANGER, "claim", FLEXIBLE, ALICE),
        "NothingToWithdraw": pools(ALICE, "withdraw", FLEXIBLE),
        "OutOfBounds": pools(OPERATOR, "proposeSlash", FLEXIBLE, ALICE, 0, EVIDENCE),
        "PoolExists": pools("timelock", "openPool", (FLEXIBLE, 1, 1, 1)),
        "PoolIsClosed": by.staking_in_a_closed_pool,
        "SafeCastOverflowedUintDowncast": lambda chain: chain.reverts(
            by.rich(chain, ALICE), POOLS, "stake", FLEXIBLE, value=2**128
        ),
        "SlashWaits": by.slashing_twice,
        "StakingPaused": by.staking_while_paused,
        "StillLocked": by.leaving_too_soon,
        "TransferFailed": by.returning_to_who_refuses,
        "UnknownPool": pools(ALICE, "stake", WORD, value=1),
        "UnknownSlash": pools(STRANGER, "executeSlash", 1),
        "WrongBond": by.with_slash(ALICE, "appeal", WORD, value=BOND + 1),
        "ZeroAddress": pools("timelock", "setTreasury", ZERO_ADDRESS),
        "ZeroAmount": pools(ALICE, "stake", FLEXIBLE),
    },
    "GovernanceToken": {
        "ECDSAInvalidSignature": call(
            "GovernanceToken", BOB, "permit", ALICE, BOB, 1, 2**40, 0, EMPTY, EMPTY
        ),
        "ECDSAInvalidSignatureS": call(
            "GovernanceToken", BOB, "permit", ALICE, BOB, 1, 2**40, 27, WORD, b"\xff" * 32
        ),
        "ERC20ExceededSafeSupply": lambda chain: chain.reverts(
            by.rich(chain, ALICE), "GovernanceToken", "deposit", value=MUCH
        ),
        "ERC20InsufficientAllowance": call("GovernanceToken", BOB, "transferFrom", ALICE, BOB, 1),
        "ERC20InsufficientBalance": call("GovernanceToken", BOB, "transfer", ALICE, 1),
        "ERC20InvalidApprover": call("GovernanceToken", ZERO_ADDRESS, "approve", ALICE, 1),
        "ERC20InvalidReceiver": call("GovernanceToken", ALICE, "transfer", ZERO_ADDRESS, 0),
        "ERC20InvalidSender": call("GovernanceToken", ZERO_ADDRESS, "transfer", ALICE, 0),
        "ERC20InvalidSpender": call("GovernanceToken", ALICE, "approve", ZERO_ADDRESS, 1),
        "ERC2612ExpiredSignature": call(
            "GovernanceToken", BOB, "permit", ALICE, BOB, 1, 0, 27, WORD, WORD
        ),
        "ERC2612InvalidSigner": call(
            "GovernanceToken", BOB, "permit", ALICE, BOB, 1, 2**40, 27, WORD, WORD
        ),
        "ERC5805FutureLookup": call("GovernanceToken", ALICE, "getPastVotes", ALICE, 2**40),
        "InvalidAccountNonce": call(
            "GovernanceToken", BOB, "delegateBySig", ALICE, 7, 2**40, 27, WORD, WORD
        ),
        "TransferFailed": by.unwrapping_for_who_refuses,
        "VotesExpiredSignature": call(
            "GovernanceToken", BOB, "delegateBySig", ALICE, 0, 0, 27, WORD, WORD
        ),
        "ZeroAmount": call("GovernanceToken", ALICE, "deposit"),
    },
    "OpenGovernor": {
        "FailedCall": by.relaying_to_who_refuses,
        "GovernorAlreadyCastVote": by.voting_twice,
        "GovernorDisabledDeposit": by.paying_the_governor,
        "GovernorInsufficientProposerVotes": by.proposing_without_votes,
        "GovernorInvalidProposalLength": by.proposing_half_an_action,
        "GovernorInvalidQuorumFraction": by.executing("OpenGovernor", "updateQuorumNumerator", 101),
        "GovernorInvalidSignature": by.voting_by_a_wrong_signature,
        "GovernorInvalidVoteType": by.voting_a_fourth_way,
        "GovernorInvalidVotingPeriod": by.executing("OpenGovernor", "setVotingPeriod", 0),
        "GovernorNonexistentProposal": call("OpenGovernor", ALICE, "state", 1),
        "GovernorOnlyExecutor": call("OpenGovernor", ALICE, "setVotingDelay", 1),
        "GovernorPreventLateQuorumVoteExtensionTooLarge": by.executing(
            "OpenGovernor", "setLateQuorumVoteExtension", 2**48 - 1
        ),
        "GovernorRestrictedProposer": by.proposing_in_anothers_name,
        "GovernorUnableToCancel": by.cancelling_anothers,
        "GovernorUnexpectedProposalState": by.queueing_before_the_vote,
        "SafeCastOverflowedUintDowncast": by.queueing_for_an_age,
    },
    "Timelock": with_roles("Timelock")
    | {
        "FailedCall": by.executing_who_refuses,
        "TimelockInsufficientDelay": by.by_the_governor("schedule", ALICE, 0, b"", EMPTY, EMPTY, 0),
        "TimelockInvalidOperationLength": by.by_the_governor(
            "scheduleBatch", [ALICE], [], [], EMPTY, EMPTY, SECONDS
        ),
        "TimelockUnauthorizedCaller": call("Timelock", ALICE, "updateDelay", 1),
        "TimelockUnexecutedPredecessor": by.executing_out_of_order,
        "TimelockUnexpectedOperationState": call(
            "Timelock", ALICE, "execute", ALICE, 0, b"", EMPTY, EMPTY
        ),
    },
}

DECLARED_ONLY = "declared by an interface of OpenZeppelin's and thrown by nothing that we inherit"
AT_CREATION = "a constant of the source is too long, which no deployed contract can be"
CLOCK = "time would have to run backwards"
UNREACHABLE: dict[tuple[str, str], str] = {
    ("GovernanceToken", "CheckpointUnorderedInsertion"): CLOCK,
    ("GovernanceToken", "ECDSAInvalidSignatureLength"): "signatures are taken in three parts",
    ("GovernanceToken", "InvalidShortString"): AT_CREATION,
    ("GovernanceToken", "SafeCastOverflowedUintDowncast"): "the supply's cap is checked before",
    ("GovernanceToken", "StringTooLong"): AT_CREATION,
    ("OpenGovernor", "CheckpointUnorderedInsertion"): CLOCK,
    ("OpenGovernor", "ERC6372InconsistentClock"): DECLARED_ONLY,
    ("OpenGovernor", "GovernorAlreadyQueuedProposal"): DECLARED_ONLY,
    ("OpenGovernor", "GovernorInvalidVoteParams"): DECLARED_ONLY,
    ("OpenGovernor", "GovernorProposalQueueingFailed"): "the timelock's queue answers with a time",
    ("OpenGovernor", "GovernorProposalQueueingNotRequired"): "every proposal is queued",
    ("OpenGovernor", "InvalidAccountNonce"): "a vote's nonce is a part of what is signed",
    ("OpenGovernor", "InvalidShortString"): AT_CREATION,
    ("OpenGovernor", "StringTooLong"): AT_CREATION,
}
CASES = [(contract, error) for contract, errors in PROVOKED.items() for error in errors]


@pytest.mark.parametrize(("contract", "error"), CASES, ids=[".".join(case) for case in CASES])
def test_it_is_thrown(chain: Chain, contract: str, error: str) -> None:
    said = PROVOKED[contract][error](chain)
    assert said.split("(")[0] == error, said


def test_no_error_of_an_abi_is_left_out() -> None:
    thrown = {
        (name, item.name)
        for name in artifacts.CONTRACTS
        for item in artifacts.load(name).errors.values()
    }
    assert set(CASES) | set(UNREACHABLE) == thrown
    assert not set(CASES) & set(UNREACHABLE)
