"""What a node says, in our own small types. No web3; nonsense is an UnreachableError."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from typing import Any, TypeVar

from ledger.chain.addresses import to_checksum

# Events come from a handful of contracts, and a checksum costs a hash.
_checksum = lru_cache(maxsize=1024)(to_checksum)
Block_id = int | str
GWEI = 10**9
HASH = re.compile(r"0x[0-9a-f]{64}")
Read = TypeVar("Read")


class ChainError(RuntimeError):
    """Anything that went wrong with the node."""


class UnreachableError(ChainError):
    """The node did not answer, or not with JSON-RPC. Whether it acted is not known."""


class RpcError(ChainError):
    """The node answered with an error."""

    def __init__(self, method: str, code: int, message: str, data: bytes = b"") -> None:
        super().__init__(f"{method}: {message}")
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True)
class Block:
    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee: int
    gas_limit: int
    # How many transactions it has, and the filter over its events; -1 and b"" where not told.
    transactions: int = -1
    logs_bloom: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Log:
    """One event; `data` and `topics` as bytes, `address` checksummed."""

    block_number: int
    block_hash: str
    tx_hash: str
    log_index: int
    address: str
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction.

    `l1_fee` and `operator_fee` are what an OP Stack chain charges on top, in wei.
    """

    tx_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    gas_price: int
    l1_fee: int
    operator_fee: int
    contract: str | None
    logs: tuple[Log, ...] = field(repr=False, default=())

    @property
    def fee(self) -> int:
        """Everything that the sender's balance fell by, but for the value."""
        return self.gas_used * self.gas_price + self.l1_fee + self.operator_fee


@dataclass(frozen=True)
class Fees:
    """EIP-1559 prices of one unit of gas, in wei."""

    maximum: int
    priority: int


@dataclass(frozen=True)
class WalletView:
    """A wallet as one answer of a node shows it.

    `nonce` counts what is mined in the latest block, `pending` also what waits; fees and balance
    in wei.
    """

    chain_id: int
    nonce: int
    pending: int
    balance: int
    base_fee: int
    priority: int
    block: int
    # Of the latest block; 0 where not told.
    gas_limit: int = 0

    @property
    def fees(self) -> Fees:
        """The priority fee that the node suggests, and twice the base fee on top as the maximum."""
        return Fees(maximum=2 * self.base_fee + self.priority, priority=self.priority)


def _readable(read: Callable[[Any], Read]) -> Callable[[Any], Read]:
    """A node, or what stands before it, may say anything: what makes no sense is no answer."""

    @wraps(read)
    def reading(raw: Any) -> Read:
        try:
            return read(raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreachableError(f"the node gave {str(raw)[:200]!r}: {error!r}") from error

    return reading


@_readable
def to_int(raw: Any) -> int:
    return int(_text(raw), 16)


@_readable
def to_bytes(raw: Any) -> bytes:
    return bytes.fromhex(str(raw or "0x").removeprefix("0x"))


@_readable
def to_block(raw: Any) -> Block:
    transactions = raw.get("transactions")
    return Block(
        number=to_int(raw["number"]),
        hash=_hash(raw["hash"]),
        parent_hash=_hash(raw["parentHash"]),
        timestamp=to_int(raw["timestamp"]),
        base_fee=to_int(raw.get("baseFeePerGas", "0x0")),
        gas_limit=to_int(raw["gasLimit"]),
        transactions=len(transactions) if isinstance(transactions, list) else -1,
        logs_bloom=to_bytes(raw.get("logsBloom")),
    )


@_readable
def to_log(raw: Any) -> Log:
    if raw.get("removed"):
        raise ValueError("an event of a block that is gone")
    return Log(
        block_number=to_int(raw["blockNumber"]),
        block_hash=_hash(raw["blockHash"]),
        tx_hash=_hash(raw["transactionHash"]),
        log_index=to_int(raw["logIndex"]),
        address=_checksum(raw["address"]),
        topics=tuple(to_bytes(topic) for topic in raw["topics"]),
        data=to_bytes(raw["data"]),
    )


@_readable
def to_list(raw: Any) -> list[Any]:
    if not isinstance(raw, list):
        raise TypeError("a list was expected")
    return raw


@_readable
def to_receipt(raw: Any) -> Receipt:
    return _receipt(raw, tuple(to_log(log) for log in raw["logs"]))


@_readable
def to_outcome(raw: Any) -> Receipt:
    """The receipt without its events, which are most of the work: a batch has hundreds."""
    return _receipt(raw, ())


def _receipt(raw: Any, logs: tuple[Log, ...]) -> Receipt:
    contract = raw.get("contractAddress")
    gas_used = to_int(raw["gasUsed"])
    return Receipt(
        tx_hash=_hash(raw["transactionHash"]),
        block_number=to_int(raw["blockNumber"]),
        block_hash=_hash(raw["blockHash"]),
        succeeded=to_int(raw["status"]) == 1,
        gas_used=gas_used,
        gas_price=to_int(raw.get("effectiveGasPrice", "0x0")),
        l1_fee=to_int(raw.get("l1Fee") or "0x0"),
        operator_fee=_operator_fee(raw, gas_used),
        contract=to_checksum(contract) if contract else None,
        logs=logs,
    )


def _operator_fee(raw: Any, gas_used: int) -> int:
    """Isthmus: gas x scalar / 10^6 + constant. Jovian: gas x scalar x 100 + constant.

    A receipt does not name its fork; since Jovian it carries `daFootprintGasScalar`, even where
    that is zero. Scalar and constant are there only where one of them is not zero.
    Source: ethereum-optimism/specs (fd72cf7), specs/protocol/isthmus/exec-engine.md, "Fee Formula"
    and "Receipts"; specs/protocol/jovian/exec-engine.md, "Fee Formula Update" and "Receipts".
    """
    scalar = to_int(raw.get("operatorFeeScalar") or "0x0")
    constant = to_int(raw.get("operatorFeeConstant") or "0x0")
    if raw.get("daFootprintGasScalar") is not None:
        return gas_used * scalar * 100 + constant
    return gas_used * scalar // 10**6 + constant


def revert_data(data: Any) -> bytes:
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if isinstance(data, str) and data.startswith("0x"):
        return to_bytes(data)
    return b""


def tag(block: Block_id) -> str:
    return hex(block) if isinstance(block, int) else block


def call_fields(to: str, data: bytes, sender: str | None, value: int) -> dict[str, str]:
    fields = {"to": to, "data": "0x" + data.hex(), "value": hex(value)}
    if sender is not None:
        fields["from"] = sender
    return fields


def _hash(raw: Any) -> str:
    text = _text(raw).lower()
    if not HASH.fullmatch(text):
        raise ValueError("a hash was expected: 0x and 64 hexadecimal digits")
    return text


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise TypeError("a string was expected")
    return raw
