"""What an OP Stack chain takes on top of gas, asked before anything is signed.

Its nodes refuse a transaction whose wallet has enough for value and gas and not for the data on L1
and the operator's fee. Other chains have no such contract, and nothing on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.chain.client import ChainClient
from ledger.chain.jobs import GAS_LIMIT
from ledger.chain.keccak import keccak256
from ledger.chain.wire import RpcError, UnreachableError, call_fields, to_bytes

# The predeploy GasPriceOracle. Source: ethereum-optimism/specs, specs/protocol/fjord/predeploys.md
# (getL1FeeUpperBound) and specs/protocol/isthmus/predeploys.md (getOperatorFee).
ORACLE = "0x420000000000000000000000000000000000000F"
DATA_FEE = keccak256(b"getL1FeeUpperBound(uint256)")[:4]
OPERATOR_FEE = keccak256(b"getOperatorFee(uint256)")[:4]
# What stands in a transaction beside its calldata, unsigned; the oracle adds the signature itself.
ENVELOPE = 120
# EIP-7825 lets no transaction have more calldata than this, at ten units of gas a byte.
MOST_DATA = GAS_LIMIT // 10
# L1 may become dearer until it is mined, as gas may.
MARGIN = 2


@dataclass(frozen=True)
class Surcharge:
    """Upper bounds in wei: `each` for any transaction, `data` for MOST_DATA bytes and `gas` for
    GAS_LIMIT units more; both grow no faster than in proportion."""

    each: int = 0
    data: int = 0
    gas: int = 0

    def of(self, *, count: int, size: int, gas: int) -> int:
        """What `count` transactions of `size` bytes and `gas` units together may cost on top."""
        data = -(-self.data * size // MOST_DATA)
        return MARGIN * (count * self.each + data - (-self.gas * gas // GAS_LIMIT))


NOTHING = Surcharge()


def surcharge(client: ChainClient) -> Surcharge:
    """As the node's newest block has it. Raises UnreachableError.

    The fee of data is the larger of a minimum and a line with a negative intercept that is smaller
    than the minimum; so the minimum and the line's rise from 0, which is at most its value plus the
    minimum, bound any size, and their sums any number of transactions.
    """
    none, most, idle, full = _asked(
        client, ((DATA_FEE, 0), (DATA_FEE, MOST_DATA), (OPERATOR_FEE, 0), (OPERATOR_FEE, GAS_LIMIT))
    )
    return Surcharge(each=none + idle, data=most + none if most else 0, gas=max(0, full - idle))


def _asked(client: ChainClient, questions: tuple[tuple[bytes, int], ...]) -> list[int]:
    """0 where there is no such contract, or it has no such function yet."""
    calls = [
        ("eth_call", [call_fields(ORACLE, function + value.to_bytes(32), None, 0), "latest"])
        for function, value in questions
    ]
    found = []
    for answer in client.batch(calls):
        if isinstance(answer, UnreachableError):
            raise answer
        word = b"" if isinstance(answer, RpcError) else to_bytes(answer)
        found.append(int.from_bytes(word) if len(word) == 32 else 0)
    return found
