"""Cumulative Merkle distributions: OpenZeppelin's StandardMerkleTree, without web3.

A leaf is `keccak(keccak(abi.encode(uint256 chainId, address distributor, address account,
uint256 cumulative)))`; a node hashes its two children in sorted order, so a proof needs no
directions. The tree is the complete binary tree of @openzeppelin/merkle-tree, in one array with
the root first and the leaves, sorted by hash, last and backwards; roots, proofs and dumps equal
that library's. Source: https://github.com/OpenZeppelin/merkle-tree

Building costs two hashes a leaf and one a node: O(n) hashes and O(n log n) comparisons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ledger.chain.addresses import address_bytes, to_checksum
from ledger.chain.keccak import keccak256

LEAF_ENCODING = ("uint256", "address", "address", "uint256")
UINT256_LIMIT = 1 << 256
# What the distributor adds up stays far below a wrap-around.
CUMULATIVE_LIMIT = 1 << 128


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


@dataclass(frozen=True)
class Tree:
    """A published distribution: `nodes[0]` is its root, `places[i]` where leaf i stands."""

    chain_id: int
    distributor: str
    leaves: tuple[tuple[str, int], ...]
    nodes: tuple[bytes, ...]
    places: tuple[int, ...]

    @property
    def root(self) -> bytes:
        return self.nodes[0]

    @property
    def root_hex(self) -> str:
        return "0x" + self.root.hex()

    @property
    def total(self) -> int:
        """The sum of all cumulative amounts in wei."""
        return sum(cumulative for _, cumulative in self.leaves)

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {account: number for number, (account, _) in enumerate(self.leaves)}

    def claim(self, account: str) -> Claim:
        """The amount and proof of `account`. Raises KeyError where it has none."""
        number = self._index[to_checksum(account)]
        name, cumulative = self.leaves[number]
        return Claim(name, cumulative, proof(self.nodes, self.places[number]))

    def dump(self) -> dict[str, object]:
        """The tree as @openzeppelin/merkle-tree writes and reads it (`standard-v1`)."""
        return {
            "format": "standard-v1",
            "leafEncoding": list(LEAF_ENCODING),
            "tree": ["0x" + node.hex() for node in self.nodes],
            "values": [
                {
                    "value": [str(self.chain_id), self.distributor, account, str(cumulative)],
                    "treeIndex": place,
                }
                for (account, cumulative), place in zip(self.leaves, self.places, strict=True)
            ],
        }


def build(*, chain_id: int, distributor: str, amounts: Iterable[tuple[str, int]]) -> Tree:
    """The tree of `(account, cumulative wei)` pairs, in order of address.

    Raises DistributionError for nobody, an address twice, an amount not above zero or too large.
    """
    leaves = _checked(amounts)
    if not leaves:
        raise DistributionError("A distribution needs at least one account.")
    prefix = _word(chain_id) + _word(int.from_bytes(address_bytes(distributor)))
    nodes, places = merkle_tree(
        [
            _double_hash(prefix + b"\x00" * 12 + bytes.fromhex(account[2:]) + _word(cumulative))
            for account, cumulative in leaves
        ]
    )
    return Tree(chain_id, to_checksum(distributor), tuple(leaves), tuple(nodes), tuple(places))


def leaf(*, chain_id: int, distributor: str, account: str, cumulative: int) -> bytes:
    """The 32-byte leaf of one account, as the contract computes it."""
    words = (
        _word(chain_id),
        _word(int.from_bytes(address_bytes(distributor))),
        _word(int.from_bytes(address_bytes(account))),
        _word(cumulative),
    )
    return _double_hash(b"".join(words))


def merkle_tree(leaves: Sequence[bytes], *, sort: bool = True) -> tuple[list[bytes], list[int]]:
    """All nodes of the complete binary tree over 32-byte `leaves`, root first, and their places.

    With `sort` the leaves stand in order of their hash, as OpenZeppelin's default has it.
    """
    if not leaves:
        raise DistributionError("A tree needs at least one leaf.")
    count = len(leaves)
    order = sorted(range(count), key=leaves.__getitem__) if sort else list(range(count))
    nodes = [b""] * (2 * count - 1)
    places = [0] * count
    for rank, number in enumerate(order):
        place = 2 * count - 2 - rank
        nodes[place] = leaves[number]
        places[number] = place
    for place in range(count - 2, -1, -1):
        nodes[place] = _pair(nodes[2 * place + 1], nodes[2 * place + 2])
    return nodes, places


def proof(nodes: Sequence[bytes], place: int) -> tuple[bytes, ...]:
    """The siblings from `place` up to the root."""
    siblings = []
    while place > 0:
        siblings.append(nodes[place + 1 if place % 2 else place - 1])
        place = (place - 1) // 2
    return tuple(siblings)


def verify(*, root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` leads from `leaf` to `root`."""
    node = leaf
    for sibling in proof:
        node = _pair(node, sibling)
    return node == root


def _checked(amounts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    seen: dict[str, int] = {}
    for address, cumulative in amounts:
        account = to_checksum(address)
        if account in seen:
            raise DistributionError(f"{account} stands twice: one address has one leaf.")
        if isinstance(cumulative, bool) or not isinstance(cumulative, int):
            raise DistributionError(f"{account} has {cumulative!r}, which is not whole wei.")
        if not 0 < cumulative < CUMULATIVE_LIMIT:
            raise DistributionError(f"{account} has {cumulative} wei, not above 0 and below 2^128.")
        seen[account] = cumulative
    return sorted(seen.items(), key=lambda pair: pair[0].lower())


def _word(number: int) -> bytes:
    if not 0 <= number < UINT256_LIMIT:
        raise DistributionError(f"{number} does not fit a uint256.")
    return number.to_bytes(32)


def _double_hash(encoded: bytes) -> bytes:
    return keccak256(keccak256(encoded))


def _pair(left: bytes, right: bytes) -> bytes:
    return keccak256(left + right if left < right else right + left)
