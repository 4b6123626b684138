"""What nodes mean by the sentences with which they refuse a transaction.

Words of geth, op-geth, reth, erigon, Nethermind and anvil; JSON-RPC has no codes for these.
"""

from __future__ import annotations

from enum import Enum

from ledger.chain.wire import ChainError, UnreachableError


class Verdict(Enum):
    TAKEN = "it has them"
    UNKNOWN = "it may have them"
    NONCE_USED = "the nonce is used already"
    CHEAP = "they pay too little"
    NO_FUNDS = "the wallet holds too little"
    NEVER = "it will never take these bytes"
    REFUSED = "it does not want them now"


ALREADY_KNOWN = ("already known", "already imported", "known transaction", "alreadyknown")
NONCE_TOO_LOW = ("nonce too low", "nonce is too low", "invalid nonce", "oldnonce")
UNDERPRICED = (
    "underpriced", "max fee per gas less than block base fee", "fee too low", "feetoolow",
    "maxfeepergas is too low", "feecap less than base fee",
)  # fmt: skip
NO_FUNDS = ("insufficient funds", "insufficientfunds", "insufficient balance")
# What a later block cannot change.
NEVER = (
    "intrinsic gas too low", "intrinsicgas", "exceeds block gas limit", "gas limit too high",
    "intrinsic gas too high", "gaslimitexceeded", "exceeds transaction gas limit",
    "oversized data", "exceeds max initcode size", "invalid sender", "invalid signature",
    "invalid transaction", "transaction type not supported", "max priority fee per gas higher than",
    "tip above fee cap", "gas uint64 overflow", "negative value", "rlp:", "failed to decode",
)  # fmt: skip


def judge(problem: ChainError | None) -> Verdict:
    """What the answer to a raw send means; None is the node's yes."""
    if problem is None:
        return Verdict.TAKEN
    if isinstance(problem, UnreachableError):
        return Verdict.UNKNOWN
    said = str(problem).lower()
    for words, verdict in (
        (ALREADY_KNOWN, Verdict.TAKEN),
        (NONCE_TOO_LOW, Verdict.NONCE_USED),
        (UNDERPRICED, Verdict.CHEAP),
        (NO_FUNDS, Verdict.NO_FUNDS),
        (NEVER, Verdict.NEVER),
    ):
        if any(word in said for word in words):
            return verdict
    return Verdict.REFUSED
