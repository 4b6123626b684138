"""Cumulative Merkle distributions: OpenZeppelin's StandardMerkleTree, without web3.

A leaf is `keccak(keccak(abi.encode(uint256 chainId, address distributor, address account,
uint256 cumulative)))`; a node hashes its two children in sorted order, so a proof needs no
directions. The tree is the complete binary tree of @openzeppelin/merkle-tree, in one array with
the root first and the leaves, sorted by hash, last and backwards; roots, proofs and dumps equal
that library's. Source: https://github.com/OpenZeppelin/merkle-tree

Building costs two hashes a leaf, one for its address's checksum and one a node, level by level over
columns: O(n) hashes, 200 bytes of memory a leaf. `python -m ledger.chain.distribution verify FILE`
rebuilds one from its published file and needs nothing of the web application.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ledger.chain import columns
from ledger.chain.addresses import address_bytes, from_bytes, to_checksum
from ledger.chain.keccak import keccak256
from ledger.chain.keccak_many import Bytes, keccak256_many

LEAF_ENCODING = ("uint256", "address", "address", "uint256")
UINT256_LIMIT = 1 << 256
# What the distributor adds up stays far below a wrap-around, and fits half a word.
CUMULATIVE_LIMIT = 1 << 128
AMOUNT = 16
NODE = 32
# Rows that are hashed, read or written at once.
ROWS = 1 << 16


class DistributionError(ValueError):
    """A distribution that must not be published: says which account and why."""


@dataclass(frozen=True)
class Claim:
    """What one account may show the distributor: its cumulative wei and its proof."""

    account: str
    cumulative: int
    proof: tuple[bytes, ...]

    @property
    def proof_hex(self) -> list[str]:
        return ["0x" + node.hex() for node in self.proof]


@dataclass(frozen=True, eq=False)
class Tree:
    """A published distribution. Leaf i is `accounts[i]`, `amounts[i]` and stands at `places[i]`.

    accounts (n, 20) in ascending order, spelled (n, 42) with their checksums, amounts (n, 16)
    big-endian wei, nodes (2n - 1, 32).
    """

    chain_id: int
    distributor: str
    accounts: Bytes
    spelled: Bytes
    amounts: Bytes
    nodes: Bytes
    places: np.ndarray[tuple[int], np.dtype[np.intp]]
    total: int

    def __len__(self) -> int:
        return len(self.accounts)

    @property
    def root(self) -> bytes:
        return bytes(self.nodes[0])

    @property
    def root_hex(self) -> str:
        return "0x" + self.root.hex()

    def leaves(self) -> Iterator[tuple[str, int]]:
        """Every account with its cumulative wei, in the order of the addresses."""
        for start in range(0, len(self), ROWS):
            part = slice(start, start + ROWS)
            text = self.spelled[part].tobytes().decode("ascii")
            width = columns.ADDRESS_TEXT
            for number, amount in enumerate(columns.amounts_of(self.amounts[part])):
                yield text[number * width : (number + 1) * width], amount

    def claim(self, account: str) -> Claim:
        """The amount and proof of `account`. Raises KeyError where it has none."""
        number = self._number(address_bytes(account))
        cumulative = int.from_bytes(self.amounts[number].tobytes())
        place = int(self.places[number])
        return Claim(to_checksum(account), cumulative, proof(self.nodes, place))

    def dump(self) -> dict[str, object]:
        """The tree as @openzeppelin/merkle-tree writes and reads it (`standard-v1`)."""
        return {
            "format": "standard-v1",
            "leafEncoding": list(LEAF_ENCODING),
            "tree": ["0x" + node.tobytes().hex() for node in self.nodes],
            "values": [
                {
                    "value": [str(self.chain_id), self.distributor, account, str(cumulative)],
                    "treeIndex": int(place),
                }
                for (account, cumulative), place in zip(self.leaves(), self.places, strict=True)
            ],
        }

    def _number(self, account: bytes) -> int:
        """Binary search among the accounts. Raises KeyError."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.accounts[middle].tobytes() < account:
                low = middle + 1
            else:
                high = middle
        if low == len(self) or self.accounts[low].tobytes() != account:
            raise KeyError(from_bytes(account))
        return low


def build(*, chain_id: int, distributor: str, amounts: Iterable[tuple[str, int]]) -> Tree:
    """The tree of `(account, cumulative wei)` pairs, in order of address.

    The pairs are read once and need not fit into memory as objects. Raises DistributionError for
    nobody, an address twice, an amount not above zero or too large, ValueError for no address.
    """
    accounts, spelled, wei, total = _checked(amounts)
    hashes = np.empty((len(accounts), NODE), dtype=np.uint8)
    prefix = _word(chain_id) + _word(int.from_bytes(address_bytes(distributor)))
    for start in range(0, len(accounts), ROWS):
        part = slice(start, start + ROWS)
        hashes[part] = _leaves(prefix, accounts[part], wei[part])
    nodes, places = merkle_tree(hashes)
    return Tree(chain_id, to_checksum(distributor), accounts, spelled, wei, nodes, places, total)


def leaf(*, chain_id: int, distributor: str, account: str, cumulative: int) -> bytes:
    """The 32-byte leaf of one account, as the contract computes it."""
    words = (
        _word(chain_id),
        _word(int.from_bytes(address_bytes(distributor))),
        _word(int.from_bytes(address_bytes(account))),
        _word(cumulative),
    )
    return keccak256(keccak256(b"".join(words)))


def merkle_tree(
    leaves: Bytes, *, sort: bool = True
) -> tuple[Bytes, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """All (2n - 1, 32) nodes of the complete binary tree over (n, 32) leaves, root first, and the
    places of the leaves among them.

    With `sort` the leaves stand in order of their hash, as OpenZeppelin's default has it.
    """
    count = len(leaves)
    if count == 0:
        raise DistributionError("A tree needs at least one leaf.")
    ranked = columns.order(leaves) if sort else np.arange(count)
    nodes = np.empty((2 * count - 1, NODE), dtype=np.uint8)
    nodes[count - 1 :] = leaves[ranked][::-1]
    places = np.empty(count, dtype=np.intp)
    places[ranked] = 2 * count - 2 - np.arange(count)
    # The inner nodes of one depth stand side by side, and so do their children.
    for depth in reversed(range((count - 1).bit_length())):
        for start in range((1 << depth) - 1, min((2 << depth) - 1, count - 1), ROWS):
            end = min(start + ROWS, (2 << depth) - 1, count - 1)
            children = nodes[2 * start + 1 : 2 * end + 1]
            pairs = children.reshape(-1, 2, NODE).copy()
            columns.sort_pairs(pairs)
            nodes[start:end] = keccak256_many(pairs.reshape(-1, 2 * NODE))
    return nodes, places


def proof(nodes: Sequence[bytes] | Bytes, place: int) -> tuple[bytes, ...]:
    """The siblings from `place` up to the root."""
    siblings = []
    while place > 0:
        siblings.append(bytes(nodes[place + 1 if place % 2 else place - 1]))
        place = (place - 1) // 2
    return tuple(siblings)


def place_of(nodes: Sequence[bytes], leaf: bytes) -> int | None:
    """Where `leaf` stands among the nodes, by binary search: leaves stand last and descend."""
    count = (len(nodes) + 1) // 2
    low, high = count - 1, 2 * count - 1
    while low < high:
        middle = (low + high) // 2
        if nodes[middle] > leaf:
            low = middle + 1
        else:
            high = middle
    return low if low < 2 * count - 1 and nodes[low] == leaf else None


def root_of(*, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` leads to from `leaf`."""
    node = leaf
    for sibling in proof:
        node = keccak256(node + sibling if node < sibling else sibling + node)
    return node


def verify(*, root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` leads from `leaf` to `root`."""
    return root_of(leaf=leaf, proof=proof) == root


def _leaves(prefix: bytes, accounts: Bytes, amounts: Bytes) -> Bytes:
    words = np.zeros((len(accounts), 4 * NODE), dtype=np.uint8)
    words[:, : 2 * NODE] = np.frombuffer(prefix, dtype=np.uint8)
    words[:, 3 * NODE - 20 : 3 * NODE] = accounts
    words[:, 4 * NODE - AMOUNT :] = amounts
    return keccak256_many(keccak256_many(words))


def _checked(amounts: Iterable[tuple[str, int]]) -> tuple[Bytes, Bytes, Bytes, int]:
    """Accounts in order, their letters, their amounts, and the sum."""
    addresses, letters, wei, total = [], [], bytearray(), 0
    rest = iter(amounts)
    while part := list(islice(rest, ROWS)):
        found, spelled = columns.spell_addresses([address for address, _ in part])
        addresses.append(found)
        letters.append(spelled)
        for address, cumulative in part:
            if isinstance(cumulative, bool) or not isinstance(cumulative, int):
                raise DistributionError(f"{address} has {cumulative!r}, which is not whole wei.")
            if not 0 < cumulative < CUMULATIVE_LIMIT:
                raise DistributionError(
                    f"{address} has {cumulative} wei, not above 0 and below 2^128."
                )
            wei += cumulative.to_bytes(AMOUNT)
            total += cumulative
    if not addresses:
        raise DistributionError("A distribution needs at least one account.")
    accounts = np.concatenate(addresses)
    ranked = columns.order(accounts)
    accounts = accounts[ranked]
    twice = np.flatnonzero(columns.equals_next(accounts))
    if len(twice):
        name = from_bytes(accounts[twice[0]].tobytes())
        raise DistributionError(f"{name} stands twice: one address has one leaf.")
    column = np.frombuffer(wei, dtype=np.uint8).reshape(-1, AMOUNT)
    return accounts, np.concatenate(letters)[ranked], column[ranked], total


def _word(number: int) -> bytes:
    if not 0 <= number < UINT256_LIMIT:
        raise DistributionError(f"{number} does not fit a uint256.")
    return number.to_bytes(32)


if __name__ == "__main__":
    from ledger.chain.verifier import main

    sys.exit(main())
