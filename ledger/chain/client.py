"""The one way to a node: JSON-RPC by web3's HTTP provider, in our own small types (`wire`).

Raw sends are taken out of web3's list of calls to retry: the sender alone decides when the same
bytes go out again. Many calls go as one batch where the node takes batches, else one by one.
Only the workers of the `chain` queue and management commands import this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

_recursion_limit = sys.getrecursionlimit()

import requests  # noqa: E402
from web3 import HTTPProvider  # noqa: E402
from web3.exceptions import Web3Exception  # noqa: E402
from web3.providers.rpc.utils import (  # noqa: E402
    REQUEST_RETRY_ALLOWLIST,
    ExceptionRetryConfiguration,
)
from web3.types import RPCEndpoint  # noqa: E402

from ledger.chain.wire import (  # noqa: E402
    GWEI,
    Block,
    Block_id,
    ChainError,
    Fees,
    Log,
    Receipt,
    RpcError,
    UnreachableError,
    WalletView,
    call_fields,
    revert_data,
    tag,
    to_block,
    to_bytes,
    to_int,
    to_list,
    to_log,
    to_outcome,
    to_receipt,
)

# web3 brings py_ecc, which lifts the limit to 100,000; nested JSON then overflows the C stack.
sys.setrecursionlimit(_recursion_limit)

__all__ = [
    "GWEI", "Block", "Block_id", "ChainClient", "ChainError", "Fees", "Log", "Receipt", "RpcError",
    "UnreachableError", "WalletView",
]  # fmt: skip

# Public nodes take a hundred calls in one request, and more at their own discretion.
CALLS_A_BATCH = 100
Call = tuple[str, list[Any]]


class ChainClient:
    """A node at `url`; `timeout` seconds a call. Raises UnreachableError and RpcError."""

    def __init__(self, url: str, *, timeout: float = 10.0, retries: int = 3) -> None:
        self.url = url
        # False once the node has said that it takes no batches.
        self.takes_batches = True
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

    # ------------------------------------------------------------------ calls

    def rpc(self, method: str, *parameters: Any) -> Any:
        """The result of one call as the node gives it (hexadecimal strings)."""
        try:
            answer = self._provider.make_request(RPCEndpoint(method), list(parameters))
        except (requests.RequestException, OSError, ValueError, Web3Exception) as error:
            raise UnreachableError(f"{method}: {self._without_secrets(error)}") from error
        return _result(method, answer)

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Results in the order of the calls; in the place of one that failed, its ChainError."""
        results: list[Any] = []
        for first in range(0, len(calls), CALLS_A_BATCH):
            part = calls[first : first + CALLS_A_BATCH]
            answers = self._batch(part) if self.takes_batches and len(part) > 1 else None
            results += self._one_by_one(part) if answers is None else answers
        return results

    def _batch(self, calls: Sequence[Call]) -> list[Any] | None:
        """None where the node takes no batches, or not this one."""
        asked = [(RPCEndpoint(method), parameters) for method, parameters in calls]
        try:
            answers = self._provider.make_batch_request(asked)
        except requests.HTTPError as error:
            # It was refused as a whole and nothing of it was done.
            if error.response is not None and error.response.status_code in (400, 404, 405, 413):
                return None
            return [UnreachableError(f"batch: {self._without_secrets(error)}")] * len(calls)
        except (requests.RequestException, OSError, ValueError, Web3Exception) as error:
            return [UnreachableError(f"batch: {self._without_secrets(error)}")] * len(calls)
        except (AttributeError, TypeError, KeyError) as error:
            return [UnreachableError(f"batch: the node gave nonsense: {error!r}")] * len(calls)
        if isinstance(answers, dict) and answers.get("error") is not None:
            self.takes_batches = False
            return None
        if not isinstance(answers, list) or not _in_order(answers, len(calls)):
            return [UnreachableError("batch: the node left answers out")] * len(calls)
        return [_caught(method, answer) for (method, _), answer in zip(calls, answers, strict=True)]

    def _one_by_one(self, calls: Sequence[Call]) -> Iterator[Any]:
        for method, parameters in calls:
            try:
                yield self.rpc(method, *parameters)
            except ChainError as error:
                yield error

    def _without_secrets(self, error: Exception) -> str:
        """Providers put their key into the node's address, and errors quote it."""
        text, parts = str(error), urlsplit(self.url)
        login = parts.netloc.rpartition("@")[0]
        for secret in (self.url, f"{parts.path}?{parts.query}", parts.path, parts.query, login):
            if len(secret) > 1:
                text = text.replace(secret, "…")
        return text

    # ------------------------------------------------------------------ reading

    def chain_id(self) -> int:
        return to_int(self.rpc("eth_chainId"))

    def block(self, block: Block_id) -> Block | None:
        """A block by number, tag ("latest", "safe", "finalized") or hash; None where unknown."""
        if isinstance(block, str) and len(block) == 66:
            raw = self.rpc("eth_getBlockByHash", block, False)
        else:
            raw = self.rpc("eth_getBlockByNumber", tag(block), False)
        if raw is None:
            return None
        found = to_block(raw)
        if isinstance(block, int) and found.number != block:
            raise UnreachableError(f"asked for block {block}, the node gave {found.number}")
        return found

    def logs(self, first: int, last: int, addresses: Sequence[str]) -> list[Log]:
        """All events of `addresses` in blocks `first` to `last`, in order."""
        wanted = {"fromBlock": hex(first), "toBlock": hex(last), "address": list(addresses)}
        logs = _asked_for(self.rpc("eth_getLogs", wanted), addresses)
        if any(not first <= log.block_number <= last for log in logs):
            raise UnreachableError("the node gave events of blocks that were not asked for")
        return sorted(logs, key=lambda log: (log.block_number, log.log_index))

    def logs_of_block(self, block_hash: str, addresses: Sequence[str]) -> list[Log]:
        """All events of `addresses` in that very block, whatever the chain's head is."""
        wanted = {"blockHash": block_hash, "address": list(addresses)}
        logs = _asked_for(self.rpc("eth_getLogs", wanted), addresses)
        if any(log.block_hash != block_hash for log in logs):
            raise UnreachableError(f"the node gave events of another block than {block_hash}")
        return sorted(logs, key=lambda log: log.log_index)

    def logs_in_receipts(self, block: Block, addresses: Sequence[str]) -> list[Log]:
        """All events of `addresses` in the block, out of the receipts of all its transactions.

        Raises RpcError where the node does not know the call.
        """
        raw = to_list(self.rpc("eth_getBlockReceipts", block.hash))
        if block.transactions not in (-1, len(raw)):
            raise UnreachableError(f"the node left receipts of block {block.number} out")
        wanted = {address.lower() for address in addresses}
        logs = [log for one in raw for log in to_list(one.get("logs"))]
        ours = [log for log in logs if str(log.get("address")).lower() in wanted]
        found = _asked_for(ours, addresses)
        if any(log.block_hash != block.hash for log in found):
            raise UnreachableError(f"the node gave receipts of another block than {block.hash}")
        return sorted(found, key=lambda log: log.log_index)

    def receipt(self, tx_hash: str) -> Receipt | None:
        return self.receipts([tx_hash]).get(tx_hash)

    def receipts(self, hashes: Sequence[str], *, logs: bool = True) -> dict[str, Receipt]:
        """The receipts of those transactions that are in a block, by hash; without their events
        where nobody reads those."""
        answers = self.batch([("eth_getTransactionReceipt", [one]) for one in hashes])
        found: dict[str, Receipt] = {}
        for tx_hash, raw in zip(hashes, answers, strict=True):
            if isinstance(raw, ChainError):
                raise raw
            if not raw or raw.get("blockHash") is None:
                continue
            receipt = to_receipt(raw) if logs else to_outcome(raw)
            if receipt.tx_hash != tx_hash:
                raise UnreachableError(f"asked for {tx_hash}, the node gave {receipt.tx_hash}")
            found[tx_hash] = receipt
        return found

    def knows_transaction(self, tx_hash: str) -> bool:
        """Whether the node has it, mined or waiting."""
        return self.rpc("eth_getTransactionByHash", tx_hash) is not None

    def nonce(self, address: str, block: Block_id = "latest") -> int:
        return to_int(self.rpc("eth_getTransactionCount", address, tag(block)))

    def balance(self, address: str, block: Block_id = "latest") -> int:
        """Wei of native OPEN."""
        return to_int(self.rpc("eth_getBalance", address, tag(block)))

    def code(self, address: str) -> bytes:
        return to_bytes(self.rpc("eth_getCode", address, "latest"))

    def call(self, to: str, data: bytes, *, sender: str | None = None, value: int = 0) -> bytes:
        """What a call would return. Raises RpcError with the revert's data."""
        return to_bytes(self.rpc("eth_call", call_fields(to, data, sender, value), "latest"))

    def estimate_gas(self, to: str, data: bytes, *, sender: str, value: int = 0) -> int:
        """Raises RpcError with the revert's data where the call would fail."""
        return to_int(self.rpc("eth_estimateGas", call_fields(to, data, sender, value)))

    def estimates(
        self, calls: Sequence[tuple[str, bytes, int]], *, sender: str
    ) -> list[int | RpcError]:
        """The gas of each (to, data, value), or why it would fail. Raises UnreachableError."""
        asked: list[Call] = [
            ("eth_estimateGas", [call_fields(to, data, sender, value)]) for to, data, value in calls
        ]
        results: list[int | RpcError] = []
        for raw in self.batch(asked):
            if isinstance(raw, UnreachableError):
                raise raw
            results.append(raw if isinstance(raw, RpcError) else to_int(raw))
        return results

    def fees(self) -> Fees:
        """A priority fee that the node suggests, and twice the base fee on top as the maximum."""
        latest = self.block("latest")
        base = latest.base_fee if latest else GWEI
        try:
            priority = to_int(self.rpc("eth_maxPriorityFeePerGas"))
        except RpcError:
            priority = GWEI
        return Fees(maximum=2 * base + priority, priority=priority)

    def look(self, address: str) -> WalletView:
        """The chain, the wallet and the price of gas in one request."""
        answers = self.batch(
            [
                ("eth_chainId", []),
                ("eth_getTransactionCount", [address, "latest"]),
                ("eth_getTransactionCount", [address, "pending"]),
                ("eth_getBalance", [address, "latest"]),
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_maxPriorityFeePerGas", []),
            ]
        )
        if isinstance(answers[5], RpcError):
            answers[5] = hex(GWEI)
        for answer in answers:
            if isinstance(answer, ChainError):
                raise answer
        latest = to_block(answers[4])
        chain_id, nonce, pending, balance = map(to_int, answers[:4])
        return WalletView(
            chain_id=chain_id,
            nonce=nonce,
            # A node that lags behind in its pool has not seen less than what is mined.
            pending=max(nonce, pending),
            balance=balance,
            base_fee=latest.base_fee,
            priority=to_int(answers[5]),
            block=latest.number,
            gas_limit=latest.gas_limit,
        )

    def transaction_with_nonce(self, address: str, nonce: int) -> tuple[str, int] | None:
        """Hash and block of the mined transaction by which `address` used `nonce`.

        Found in the block where the count passes it, so that a node that merely lags never makes
        one look unused. None where it is not mined, or the node does not show that block any more.
        """
        try:
            last = to_int(self.rpc("eth_blockNumber"))
            low, high = self._around(address, nonce, last)
            while low < high:
                middle = (low + high) // 2
                if self.nonce(address, middle) > nonce:
                    high = middle
                else:
                    low = middle + 1
            raw = self.rpc("eth_getBlockByNumber", hex(low), True)
        except RpcError:
            return None
        return None if raw is None else _with_nonce(raw, address, nonce, low)

    def _around(self, address: str, nonce: int, last: int) -> tuple[int, int]:
        """Blocks between which the count passes `nonce`: backwards in growing strides, and in
        halves once a stride met a state that the node forgot. Where the count had passed it in the
        oldest state that is left, that block alone may show who did it.
        """
        high, stride, forgotten = last, 1, -1
        while high > 0:
            low = max(forgotten + 1, high - stride)
            try:
                if self.nonce(address, low) <= nonce:
                    return low + 1, high
            except RpcError:
                forgotten, stride = low, (high - low) // 2
            else:
                high, stride = low, stride * 2 if forgotten < 0 else (low - forgotten) // 2
            if stride == 0:
                break
        return high, high

    # ------------------------------------------------------------------ sending

    def send_raw(self, signed: bytes) -> str:
        """Hand signed bytes to the node once; returns the transaction's hash."""
        return str(self.rpc("eth_sendRawTransaction", "0x" + signed.hex()))

    def send_raws(self, signed: Sequence[tuple[str, bytes]]) -> list[ChainError | None]:
        """Hand (hash, bytes) to the node, each once: None where it took them, else why not.

        An UnreachableError in a place means that it may have taken those all the same.
        """
        answers = self.batch([("eth_sendRawTransaction", ["0x" + raw.hex()]) for _, raw in signed])
        return [
            _taken(tx_hash, answer) for (tx_hash, _), answer in zip(signed, answers, strict=True)
        ]


def _asked_for(raw: Any, addresses: Sequence[str]) -> list[Log]:
    """Events, each once and each of one of the addresses; else it is no answer."""
    logs = [to_log(one) for one in to_list(raw)]
    wanted = {address.lower() for address in addresses}
    if any(log.address.lower() not in wanted for log in logs):
        raise UnreachableError("the node gave events of contracts that were not asked for")
    if len({(log.block_hash, log.log_index) for log in logs}) != len(logs):
        raise UnreachableError("the node gave the same event twice")
    return logs


def _with_nonce(raw: Any, address: str, nonce: int, number: int) -> tuple[str, int] | None:
    try:
        for item in raw["transactions"]:
            if item["from"].lower() == address.lower() and to_int(item["nonce"]) == nonce:
                return str(item["hash"]), number
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreachableError(f"the node gave a block without senders: {error!r}") from error
    return None


def _taken(tx_hash: str, answer: Any) -> ChainError | None:
    if isinstance(answer, ChainError):
        return answer
    if str(answer).lower() != tx_hash:
        return UnreachableError(f"sent {tx_hash}, the node says {str(answer)[:100]}")
    return None


def _result(method: str, answer: Any) -> Any:
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        raise UnreachableError(f"{method}: the node gave {str(answer)[:200]!r}")
    problem = answer.get("error")
    if problem is None:
        return answer.get("result")
    if not isinstance(problem, dict):
        raise RpcError(method, 0, str(problem))
    message = str(problem.get("message", ""))
    raise RpcError(method, problem.get("code", 0), message, revert_data(problem.get("data")))


def _caught(method: str, answer: Any) -> Any:
    try:
        return _result(method, answer)
    except ChainError as error:
        return error


def _in_order(answers: list[Any], count: int) -> bool:
    """Whether each call has its own answer: web3 numbers the calls of a batch one after another."""
    if len(answers) != count or not all(isinstance(answer, dict) for answer in answers):
        return False
    ids = [answer.get("id") for answer in answers]
    if not all(isinstance(one, int) for one in ids):
        return False
    return ids == list(range(ids[0], ids[0] + count))
