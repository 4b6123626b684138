"""A typed-data signature is for one chain and one contract; anywhere else it is nobody's.

EIP-712 with the domain of EIP-5267, as a wallet signs it (`eth_signTypedData_v4`); made here from
the standard's text, with no library that the contracts' own tests would share a mistake with.
"""

from __future__ import annotations

from typing import Any

import coincurve
import pytest

from ledger.chain.abi import encode
from ledger.chain.addresses import from_private_key
from ledger.chain.keccak import keccak256
from tests.chain_fixtures import ALICE, BOB, Chain

KEY = "0x" + "71" * 32
HOLDER = from_private_key(KEY)
LATER = 2**40
CHAIN = 31337
DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
PERMIT = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
DELEGATION = "Delegation(address delegatee,uint256 nonce,uint256 expiry)"
BALLOT = "Ballot(uint256 proposalId,uint8 support,address voter,uint256 nonce)"


def hashed(text: str) -> bytes:
    return keccak256(text.encode())


def signed(
    kind: str, types: list[str], values: list[Any], *, name: str, chain_id: int, contract: str
) -> tuple[int, bytes, bytes]:
    """v, r and s of the holder."""
    domain = keccak256(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [hashed(DOMAIN), hashed(name), hashed("1"), chain_id, contract],
        )
    )
    struct = keccak256(encode(["bytes32", *types], [hashed(kind), *values]))
    digest = keccak256(b"\x19\x01" + domain + struct)
    raw = coincurve.PrivateKey(bytes.fromhex(KEY[2:])).sign_recoverable(digest, hasher=None)
    return 27 + raw[64], raw[:32], raw[32:64]


def permit(chain: Chain, **changes: Any) -> tuple[Any, ...]:
    domain = {
        "name": "Governance OPEN", "chain_id": CHAIN, "contract": chain.address("GovernanceToken"),
    } | changes  # fmt: skip
    values = [HOLDER, BOB, 7, 0, LATER]
    types = ["address", "address", "uint256", "uint256", "uint256"]
    return (HOLDER, BOB, 7, LATER, *signed(PERMIT, types, values, **domain))


def delegation(chain: Chain, **changes: Any) -> tuple[Any, ...]:
    domain = {
        "name": "Governance OPEN", "chain_id": CHAIN, "contract": chain.address("GovernanceToken"),
    } | changes  # fmt: skip
    types = ["address", "uint256", "uint256"]
    return (BOB, 0, LATER, *signed(DELEGATION, types, [BOB, 0, LATER], **domain))


def test_the_holders_own_signature_counts_once(chain: Chain) -> None:
    chain.send(ALICE, "GovernanceToken", "permit", *permit(chain))
    assert chain.read("GovernanceToken", "allowance", HOLDER, BOB) == 7
    assert "ERC2612InvalidSigner" in chain.reverts(
        ALICE, "GovernanceToken", "permit", *permit(chain)
    )


@pytest.mark.parametrize(
    "changes",
    [{"chain_id": 1}, {"chain_id": CHAIN + 1}, {"contract": BOB}, {"name": "OpenGovernor"}],
    ids=["another chain", "the next chain", "another contract", "another name"],
)
def test_a_permit_of_anywhere_else_is_refused_by_name_and_allows_nothing(
    chain: Chain, changes: dict[str, Any]
) -> None:
    refusal = chain.reverts(ALICE, "GovernanceToken", "permit", *permit(chain, **changes))
    assert refusal.startswith("ERC2612InvalidSigner(")
    assert HOLDER in refusal
    assert chain.read("GovernanceToken", "allowance", HOLDER, BOB) == 0
    assert chain.read("GovernanceToken", "nonces", HOLDER) == 0


def test_a_delegation_of_another_chain_moves_no_votes_of_its_signer(chain: Chain) -> None:
    """It recovers to somebody whom nobody knows; with the nonce used up there, not here."""
    chain.send(ALICE, "GovernanceToken", "delegateBySig", *delegation(chain, chain_id=1))
    assert chain.read("GovernanceToken", "delegates", HOLDER) == "0x" + "00" * 20
    assert chain.read("GovernanceToken", "nonces", HOLDER) == 0

    chain.send(ALICE, "GovernanceToken", "delegateBySig", *delegation(chain))
    assert chain.read("GovernanceToken", "delegates", HOLDER) == BOB


def test_a_ballot_of_another_chain_is_no_vote(chain: Chain) -> None:
    def ballot(chain_id: int) -> bytes:
        v, r, s = signed(
            BALLOT, ["uint256", "uint8", "address", "uint256"], [1, 1, HOLDER, 0],
            name="OpenGovernor", chain_id=chain_id, contract=chain.address("OpenGovernor"),
        )  # fmt: skip
        return r + s + bytes([v])

    def why(signature: bytes) -> str:
        return chain.reverts(BOB, "OpenGovernor", "castVoteBySig", 1, 1, HOLDER, signature)

    assert why(ballot(1)).startswith("GovernorInvalidSignature(")
    # The right one is the holder's; there is only no such proposal.
    assert why(ballot(CHAIN)).startswith("GovernorNonexistentProposal(")
