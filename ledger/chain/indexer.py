"""Reads the events of our contracts, block by block, and takes them back when a block goes.

Near the head every block is read by its hash and must name its parent; far behind, `eth_getLogs`
is asked for windows that grow while the node answers and halve when it refuses. The store keeps
the blocks, and everything derived hangs on them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.chain import artifacts
from ledger.chain.client import Block, ChainClient, ChainError, Log, RpcError
from ledger.chain.deployment import Deployment

logger = logging.getLogger(__name__)

# Blocks below the head that are read one by one, since a reorganisation may still touch them.
NEAR = 32
LARGEST_WINDOW = 4_096


class ReorganisedError(ChainError):
    """The chain changed while it was read; the next step starts over."""


class FinalityBrokenError(ChainError):
    """The chain took back a block that it had called final; `ancestor` is the last shared one."""

    def __init__(self, message: str, ancestor: int) -> None:
        super().__init__(message)
        self.ancestor = ancestor


class ForeignChainError(ChainError):
    """The node is on another chain than the one that was read so far."""


@dataclass(frozen=True)
class Event:
    """One decoded event of one of our contracts."""

    contract: str
    name: str
    arguments: Mapping[str, Any]
    log: Log


@dataclass(frozen=True)
class Head:
    number: int
    hash: str


@dataclass(frozen=True)
class Progress:
    """Where the mirror stands after a step; numbers are those of blocks."""

    head: int
    latest: int
    safe: int
    final: int
    events: int

    @property
    def behind(self) -> int:
        return self.latest - self.head


class IndexStore(Protocol):
    """Where the mirror lives. Each method is one transaction."""

    def head(self) -> Head | None: ...

    def hash_at(self, number: int) -> str | None: ...

    def numbers_below(self, number: int) -> Sequence[int]: ...

    def save(self, blocks: Sequence[Block], events: Sequence[Event], head: Block) -> None: ...

    def final(self) -> int:
        """The height that was called final; 0 before any was."""
        ...

    def rewind(self, number: int) -> None: ...

    def finality(self, safe: int, final: int) -> None: ...


class Indexer:
    """Mirrors one deployment."""

    def __init__(
        self,
        client: ChainClient,
        deployment: Deployment,
        store: IndexStore,
        *,
        confirmations: int = 12,
        near: int = NEAR,
        forgets: bool = False,
    ) -> None:
        """`forgets`: the node is a local one that may come back without its last blocks."""
        self.client = client
        self.deployment = deployment
        self.store = store
        self.confirmations = confirmations
        self.near = near
        self.forgets = forgets
        self.window = 512

    def step(self, *, limit: int = 64) -> Progress:
        """Read up to `limit` blocks near the head, or one window further back.

        Raises ReorganisedError (call again), FinalityBrokenError (stop), ForeignChainError,
        ChainError.
        """
        latest = self._block("latest")
        head = self._agreed_head(latest)
        first = head.number + 1
        events: Sequence[Event] = ()
        if latest.number >= first:
            if latest.number - first >= self.near:
                last, events = self._read_window(head, first)
            else:
                last, events = self._read_near(head, min(latest.number, first + limit - 1))
        else:
            last = head.number
        safe, final = self._finality(latest)
        self.store.finality(min(safe, last), min(final, last))
        return Progress(last, latest.number, safe, final, len(events))

    def _agreed_head(self, latest: Block) -> Head:
        """The last block that both the mirror and the node have; what is above it is taken back.

        A node that has not yet come so far as the mirror says nothing about the blocks above its
        own head, so nothing is taken back for it.
        """
        head = self.store.head()
        if head is None:
            return self._start()
        if latest.number >= head.number and self._hash(head.number) == head.hash:
            return head
        numbers = self.store.numbers_below(head.number)
        reached = [number for number in numbers if number <= latest.number]
        shared = self._highest_shared(reached)
        if shared is None:
            return self._nothing_shared(head, reached)
        shorter = latest.number < head.number
        if shorter and shared == reached[0] and not self.forgets:
            logger.info("the node is at %s, behind the mirror at %s", latest.number, head.number)
            return head
        if not (shorter and self.forgets):
            self._check_finality(shared, lost=min(n for n in (head.number, *numbers) if n > shared))
        logger.warning("chain reorganised: back from %s to %s", head.number, shared)
        self.store.rewind(shared)
        return self._required_head()

    def _check_finality(self, shared: int, *, lost: int) -> None:
        """`lost` is the lowest block that was read and is another one now."""
        final = self.store.final()
        if lost <= final:
            raise FinalityBrokenError(
                f"Block {final} was final, and the chain took it back: it shares nothing above "
                f"block {shared} with what was read.",
                shared,
            )

    def _highest_shared(self, numbers: Sequence[int]) -> int | None:
        """The highest of `numbers`, which fall, at which node and mirror have the same block.

        Blocks hang together, so below a shared block all are shared: a search by halves.
        """
        low, high = 0, len(numbers)
        while low < high:
            middle = (low + high) // 2
            if self._hash(numbers[middle]) == self.store.hash_at(numbers[middle]):
                high = middle
            else:
                low = middle + 1
        return numbers[low] if low < len(numbers) else None

    def _nothing_shared(self, head: Head, reached: Sequence[int]) -> Head:
        genesis = self._block(0)
        if not reached and genesis.hash == self.deployment.genesis_hash and not self.forgets:
            # A node that is still far from where the mirror began.
            return head
        raise ForeignChainError(
            "The node shares no block with what was read so far: is it another chain, or was the "
            "local chain started afresh? Deploy again with --reset, or give it its state back."
        )

    def _start(self) -> Head:
        genesis = self._block(0)
        if genesis.hash != self.deployment.genesis_hash:
            raise ForeignChainError("The contracts were deployed on another chain than the node's.")
        start = self._block(self.deployment.block)
        self.store.save([start], [], start)
        return Head(start.number, start.hash)

    def _required_head(self) -> Head:
        head = self.store.head()
        if head is None:
            raise ReorganisedError("Nothing is left of what was read; starting over.")
        return head

    def _read_near(self, head: Head, last: int) -> tuple[int, Sequence[Event]]:
        """Each block with its parent checked; logs are asked for by the block's own hash."""
        blocks: list[Block] = []
        events: list[Event] = []
        parent = head.hash
        for number in range(head.number + 1, last + 1):
            block = self._block(number)
            if block.parent_hash != parent:
                raise ReorganisedError(f"Block {number} has another parent than the one read.")
            events += self._decode(self.client.logs_of_block(block.hash, self._addresses))
            blocks.append(block)
            parent = block.hash
        self.store.save(blocks, events, blocks[-1])
        return last, events

    def _read_window(self, head: Head, first: int) -> tuple[int, Sequence[Event]]:
        """A window far below the head; only blocks with events and the last one are kept."""
        last = first + self.window - 1
        latest = self._block("latest")
        last = max(first, min(last, latest.number - self.near))
        try:
            logs = self.client.logs(first, last, self._addresses)
        except RpcError as error:
            if self.window == 1:
                raise
            self.window = max(1, self.window // 2)
            logger.info("eth_getLogs was refused (%s): window %s", error, self.window)
            return head.number, ()
        numbers = sorted({log.block_number for log in logs} | {last})
        blocks = {number: self._block(number) for number in numbers}
        if any(blocks[log.block_number].hash != log.block_hash for log in logs):
            raise ReorganisedError("A block changed between its events and its header.")
        if self._hash(head.number) != head.hash:
            raise ReorganisedError("The block before the window changed while it was read.")
        events = self._decode(logs)
        self.store.save(list(blocks.values()), events, blocks[last])
        self.window = min(LARGEST_WINDOW, self.window * 2)
        return last, events

    def _finality(self, latest: Block) -> tuple[int, int]:
        """The heights of "safe" and "finalized"; N confirmations where the node has no tags."""
        confirmed = max(0, latest.number - self.confirmations)
        return self._tagged("safe", confirmed), self._tagged("finalized", confirmed)

    def _tagged(self, tag: str, otherwise: int) -> int:
        try:
            block = self.client.block(tag)
        except RpcError:
            return otherwise
        return otherwise if block is None else block.number

    def _decode(self, logs: Sequence[Log]) -> list[Event]:
        events = []
        for log in logs:
            contract = self.deployment.name(log.address)
            decoded = artifacts.load(contract).decode_log(log.topics, log.data)
            if decoded is not None:
                events.append(Event(contract, decoded[0], decoded[1], log))
        return events

    @property
    def _addresses(self) -> list[str]:
        return list(self.deployment.addresses.values())

    def _block(self, number: int | str) -> Block:
        block = self.client.block(number)
        if block is None:
            raise ReorganisedError(f"The node has no block {number}.")
        return block

    def _hash(self, number: int) -> str:
        block = self.client.block(number)
        return "" if block is None else block.hash
