"""Reads the events of our contracts, block by block, and takes them back when a block goes.

Near the head every block is read by its hash and must name its parent; where its header speaks of
our contracts, the node's events must be those of its receipts. Far behind, `eth_getLogs` is asked
for windows that grow while the node answers and halve when it refuses. The store keeps the blocks,
and everything derived hangs on them. What makes no sense is an error, and nothing of it is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.chain import artifacts
from ledger.chain.abi import AbiError
from ledger.chain.addresses import address_bytes
from ledger.chain.bloom import may_hold
from ledger.chain.client import Block, ChainClient, ChainError, Log, RpcError, UnreachableError
from ledger.chain.deployment import Deployment

logger = logging.getLogger(__name__)

# Blocks below the head that are read one by one, since a reorganisation may still touch them.
NEAR = 32
LARGEST_WINDOW = 4_096
NO_SUCH_METHOD = -32601


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
    # When the node's newest block was made, in seconds since 1970.
    latest_time: int

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

    def window(self) -> int:
        """How many blocks the next window takes; what `keep_window` kept."""
        ...

    def keep_window(self, blocks: int) -> None: ...


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
        # False once the node has said that it does not give the receipts of a block.
        self.gives_receipts = True

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
        return Progress(last, latest.number, safe, final, len(events), latest.timestamp)

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
            events += self._decode(self._logs_of(block))
            blocks.append(block)
            parent = block.hash
        self.store.save(blocks, events, blocks[-1])
        return last, events

    def _read_window(self, head: Head, first: int) -> tuple[int, Sequence[Event]]:
        """A window far below the head; only blocks with events and the last one are kept."""
        window = self.store.window()
        last = first + window - 1
        latest = self._block("latest")
        last = max(first, min(last, latest.number - self.near))
        try:
            logs = self.client.logs(first, last, self._addresses)
        except ChainError as error:
            self.store.keep_window(max(1, window // 2))
            # One that did not answer may have been asked for too much, or be away: not at once.
            if window == 1 or not isinstance(error, RpcError):
                raise
            logger.info("eth_getLogs of %s blocks was refused: %s", window, error)
            return head.number, ()
        numbers = sorted({log.block_number for log in logs} | {last})
        blocks = {number: self._block(number) for number in numbers}
        if any(blocks[log.block_number].hash != log.block_hash for log in logs):
            raise ReorganisedError("A block changed between its events and its header.")
        if self._hash(head.number) != head.hash:
            raise ReorganisedError("The block before the window changed while it was read.")
        events = self._decode(logs)
        self.store.save(list(blocks.values()), events, blocks[last])
        # By an eighth: doubling would run into the same refusal every other time.
        self.store.keep_window(min(LARGEST_WINDOW, window + max(1, window // 8)))
        return last, events

    def _logs_of(self, block: Block) -> Sequence[Log]:
        """The block's events of our contracts, none left out.

        Nodes behind a balancer answer with no events, or some, for a block that they have not
        indexed yet. The header's filter tells whether there may be any; then the receipts decide.
        """
        logs = self.client.logs_of_block(block.hash, self._addresses)
        spoken_of = any(
            may_hold(block.logs_bloom, address_bytes(address)) for address in self._addresses
        )
        if not spoken_of or not self.gives_receipts:
            return logs
        try:
            receipts = self.client.logs_in_receipts(block, self._addresses)
        except RpcError as error:
            if error.code != NO_SUCH_METHOD:
                raise
            logger.warning("the node gives no receipts of a block; its events are not checked")
            self.gives_receipts = False
            return logs
        if logs != receipts:
            raise UnreachableError(
                f"The node gave {len(logs)} events of block {block.number}, and its receipts have "
                f"{len(receipts)}."
            )
        return logs

    def _finality(self, latest: Block) -> tuple[int, int]:
        """The heights of "safe" and "finalized"; N confirmations where the node has no tags."""
        confirmed = max(0, latest.number - self.confirmations)
        return (
            self._tagged("safe", latest, otherwise=confirmed),
            self._tagged("finalized", latest, otherwise=confirmed),
        )

    def _tagged(self, tag: str, latest: Block, *, otherwise: int) -> int:
        """Money counts by this height: it must be one of the chain that was read."""
        try:
            block = self.client.block(tag)
        except RpcError:
            return otherwise
        if block is None:
            return otherwise
        if block.number > latest.number:
            raise ReorganisedError(f'The node\'s "{tag}" block is above its latest one.')
        known = self.store.hash_at(block.number)
        if known not in (None, block.hash):
            raise ReorganisedError(f'The node\'s "{tag}" block {block.number} is another one.')
        return block.number

    def _decode(self, logs: Sequence[Log]) -> list[Event]:
        events = []
        for log in logs:
            contract = self.deployment.name(log.address)
            try:
                decoded = artifacts.load(contract).decode_log(log.topics, log.data)
            except (AbiError, StopIteration) as error:
                raise UnreachableError(
                    f"The node gave an event of {contract} that cannot be read: {error!r}"
                ) from error
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
