"""The one way to a node: JSON-RPC by web3's HTTP provider, in our own small types.

Raw sends are taken out of web3's list of calls to retry: the sender alone decides when the same
bytes go out again. Only the workers of the `chain` queue and management commands import this.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_recursion_limit = sys.getrecursionlimit()

import requests  # noqa: E402
from web3 import HTTPProvider  # noqa: E402
from web3.exceptions import Web3Exception  # noqa: E402
from web3.providers.rpc.utils import (  # noqa: E402
    REQUEST_RETRY_ALLOWLIST,
    ExceptionRetryConfiguration,
)
from web3.types import RPCEndpoint  # noqa: E402

from ledger.chain.addresses import to_checksum  # noqa: E402

# web3 brings py_ecc, which lifts the limit to 100,000; nested JSON then overflows the C stack.
sys.setrecursionlimit(_recursion_limit)

Block_id = int | str
GWEI = 10**9


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
    """What became of a transaction. `l1_fee` is what an OP Stack chain charges on top."""

    tx_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    gas_price: int
    l1_fee: int
    contract: str | None
    logs: tuple[Log, ...] = field(repr=False, default=())

    @property
    def fee(self) -> int:
        return self.gas_used * self.gas_price + self.l1_fee


@dataclass(frozen=True)
class Fees:
    """EIP-1559 prices of one unit of gas, in wei."""

    maximum: int
    priority: int


class ChainClient:
    """A node at `url`; `timeout` seconds a call. Raises UnreachableError and RpcError."""

    def __init__(self, url: str, *, timeout: float = 10.0, retries: int = 3) -> None:
        self.url = url
        self._provider = HTTPProvider(
            url,
            request_kwargs={"timeout": timeout},
            exception_retry_configuration=ExceptionRetryConfiguration(
                errors=(requests.ConnectionError, requests.Timeout),
                retries=retries,
                method_allowlist=[
                    method
                    for method in REQUEST_RETRY_ALLOWLIST
                    # "evm" and "testing" change a local chain; a second one would change it twice.
                    if method not in ("eth_sendRawTransaction", "evm", "testing")
                ],
            ),
        )

    def rpc(self, method: str, *parameters: Any) -> Any:
        """The result of one call as the node gives it (hexadecimal strings)."""
        try:
            answer = self._provider.make_request(RPCEndpoint(method), list(parameters))
        except (requests.RequestException, OSError, ValueError, Web3Exception) as error:
            raise UnreachableError(f"{method}: {error}") from error
        problem = answer.get("error")
        if problem is None:
            return answer.get("result")
        if isinstance(problem, str):
            raise RpcError(method, 0, problem)
        message = problem.get("message", "")
        raise RpcError(method, problem.get("code", 0), message, _revert_data(problem.get("data")))

    def chain_id(self) -> int:
        return _int(self.rpc("eth_chainId"))

    def block(self, block: Block_id) -> Block | None:
        """A block by number, tag ("latest", "safe", "finalized") or hash; None where unknown."""
        if isinstance(block, str) and len(block) == 66:
            raw = self.rpc("eth_getBlockByHash", block, False)
        else:
            raw = self.rpc("eth_getBlockByNumber", _tag(block), False)
        return None if raw is None else _block(raw)

    def logs(self, first: int, last: int, addresses: Sequence[str]) -> list[Log]:
        """All events of `addresses` in blocks `first` to `last`, in order."""
        wanted = {"fromBlock": hex(first), "toBlock": hex(last), "address": list(addresses)}
        logs = [_log(raw) for raw in self.rpc("eth_getLogs", wanted)]
        return sorted(logs, key=lambda log: (log.block_number, log.log_index))

    def logs_of_block(self, block_hash: str, addresses: Sequence[str]) -> list[Log]:
        """All events of `addresses` in that very block, whatever the chain's head is."""
        wanted = {"blockHash": block_hash, "address": list(addresses)}
        return sorted(map(_log, self.rpc("eth_getLogs", wanted)), key=lambda log: log.log_index)

    def receipt(self, tx_hash: str) -> Receipt | None:
        raw = self.rpc("eth_getTransactionReceipt", tx_hash)
        return None if raw is None or raw.get("blockHash") is None else _receipt(raw)

    def knows_transaction(self, tx_hash: str) -> bool:
        """Whether the node has it, mined or waiting."""
        return self.rpc("eth_getTransactionByHash", tx_hash) is not None

    def nonce(self, address: str, block: Block_id = "latest") -> int:
        return _int(self.rpc("eth_getTransactionCount", address, _tag(block)))

    def balance(self, address: str, block: Block_id = "latest") -> int:
        """Wei of native OPEN."""
        return _int(self.rpc("eth_getBalance", address, _tag(block)))

    def code(self, address: str) -> bytes:
        return _bytes(self.rpc("eth_getCode", address, "latest"))

    def call(self, to: str, data: bytes, *, sender: str | None = None, value: int = 0) -> bytes:
        """What a call would return. Raises RpcError with the revert's data."""
        return _bytes(self.rpc("eth_call", _transaction(to, data, sender, value), "latest"))

    def estimate_gas(self, to: str, data: bytes, *, sender: str, value: int = 0) -> int:
        """Raises RpcError with the revert's data where the call would fail."""
        return _int(self.rpc("eth_estimateGas", _transaction(to, data, sender, value)))

    def fees(self) -> Fees:
        """A priority fee that the node suggests, and twice the base fee on top as the maximum."""
        latest = self.block("latest")
        base = latest.base_fee if latest else GWEI
        try:
            priority = _int(self.rpc("eth_maxPriorityFeePerGas"))
        except RpcError:
            priority = GWEI
        return Fees(maximum=2 * base + priority, priority=priority)

    def send_raw(self, signed: bytes) -> str:
        """Hand signed bytes to the node once; returns the transaction's hash."""
        return str(self.rpc("eth_sendRawTransaction", "0x" + signed.hex()))


def _transaction(to: str, data: bytes, sender: str | None, value: int) -> dict[str, str]:
    fields = {"to": to, "data": "0x" + data.hex(), "value": hex(value)}
    if sender is not None:
        fields["from"] = sender
    return fields


def _tag(block: Block_id) -> str:
    return hex(block) if isinstance(block, int) else block


def _int(raw: Any) -> int:
    if not isinstance(raw, str):
        raise UnreachableError(f"the node gave {raw!r} for a number")
    return int(raw, 16)


def _bytes(raw: Any) -> bytes:
    return bytes.fromhex(str(raw or "0x").removeprefix("0x"))


def _block(raw: dict[str, Any]) -> Block:
    return Block(
        number=_int(raw["number"]),
        hash=raw["hash"],
        parent_hash=raw["parentHash"],
        timestamp=_int(raw["timestamp"]),
        base_fee=_int(raw.get("baseFeePerGas", "0x0")),
        gas_limit=_int(raw["gasLimit"]),
    )


def _log(raw: dict[str, Any]) -> Log:
    return Log(
        block_number=_int(raw["blockNumber"]),
        block_hash=raw["blockHash"],
        tx_hash=raw["transactionHash"],
        log_index=_int(raw["logIndex"]),
        address=to_checksum(raw["address"]),
        topics=tuple(_bytes(topic) for topic in raw["topics"]),
        data=_bytes(raw["data"]),
    )


def _receipt(raw: dict[str, Any]) -> Receipt:
    contract = raw.get("contractAddress")
    return Receipt(
        tx_hash=raw["transactionHash"],
        block_number=_int(raw["blockNumber"]),
        block_hash=raw["blockHash"],
        succeeded=_int(raw["status"]) == 1,
        gas_used=_int(raw["gasUsed"]),
        gas_price=_int(raw.get("effectiveGasPrice", "0x0")),
        l1_fee=_int(raw.get("l1Fee") or "0x0"),
        contract=to_checksum(contract) if contract else None,
        logs=tuple(_log(log) for log in raw["logs"]),
    )


def _revert_data(data: Any) -> bytes:
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if isinstance(data, str) and data.startswith("0x"):
        return _bytes(data)
    return b""
