"""Merkle trees of RFC 9162 (section 2.1): roots, inclusion and consistency proofs.

SHA-256; a leaf hashes as ``0x00 || data``, a node as ``0x01 || left || right``. Every hash is
32 bytes, a proof is a list of hashes from the leaf upwards. Nothing here stores anything: proofs
are made from a ``NodeReader``, which gives the hash of the complete subtree
``D[index * 2**level : (index + 1) * 2**level]``, wherever that is kept (a list, tiles in a store).

Cost: a root is linear in the leaves; a proof reads O(log n) subtrees (O(log² n) at the ragged
right edge of the tree).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
Range = tuple[int, int]


class ProofError(ValueError):
    """A proof does not show what it claims to show."""


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Iterable[bytes]) -> bytes:
    """Root over leaf *data*; the empty tree has SHA-256 of nothing."""
    return root_of_hashes(leaf_hash(leaf) for leaf in leaves)


def root_of_hashes(hashes: Iterable[bytes]) -> bytes:
    """Root over leaf *hashes*, in O(log n) memory."""
    compact = CompactRange()
    for leaf in hashes:
        compact.append(leaf)
    return compact.root()


class CompactRange:
    """The hashes of the perfect subtrees that make up a tree, widest first: enough to go on
    appending and to know the root, without the leaves."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """``hashes`` has one entry for each bit that is set in ``size``, highest bit first.

        Raises ValueError where their number does not fit.
        """
        if size < 0 or len(hashes) != size.bit_count():
            raise ValueError(f"a tree of size {size} has {size.bit_count()} subtrees")
        self.size = size
        self.hashes = list(hashes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash. Amortised cost: one node hash."""
        carry = leaf
        pending = self.size
        while pending & 1:
            carry = node_hash(self.hashes.pop(), carry)
            pending >>= 1
        self.hashes.append(carry)
        self.size += 1

    def root(self) -> bytes:
        return _fold(self.hashes)


class MemoryTree:
    """A tree whose complete subtrees are all kept in lists; ``node`` is its NodeReader."""

    def __init__(self, hashes: Iterable[bytes] = ()) -> None:
        self.levels: list[list[bytes]] = [[]]
        for leaf in hashes:
            self.append(leaf)

    @property
    def size(self) -> int:
        return len(self.levels[0])

    def append(self, leaf: bytes) -> None:
        self.levels[0].append(leaf)
        level = 0
        while len(self.levels[level]) % 2 == 0:
            if level + 1 == len(self.levels):
                self.levels.append([])
            left, right = self.levels[level][-2:]
            self.levels[level + 1].append(node_hash(left, right))
            level += 1

    def node(self, level: int, index: int) -> bytes:
        return self.levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        return root_at(self.size if size is None else size, self.node)


def root_at(size: int, node: NodeReader) -> bytes:
    """Root of the tree's first ``size`` leaves."""
    return range_hash((0, size), node)


def range_hash(span: Range, node: NodeReader) -> bytes:
    """MTH(D[begin:end]) where ``begin`` is a multiple of the widest subtree in the range."""
    return _fold([node(level, index) for level, index in subtrees(span)])


def subtrees(span: Range) -> list[tuple[int, int]]:
    """The (level, index) of the perfect subtrees that tile ``[begin, end)``, widest first."""
    begin, end = span
    found = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        found.append((level, begin >> level))
        begin += 1 << level
    return found


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """RFC 9162 2.1.3.1: that leaf ``index`` is in the tree of ``size`` leaves.

    Raises ValueError where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of size {size}")
    begin, end = 0, size
    path: list[Range] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    return [range_hash(span, node) for span in reversed(path)]


def consistency_proof(first: int, second: int, node: NodeReader) -> list[bytes]:
    """RFC 9162 2.1.4.1: that the tree of ``second`` leaves begins with that of ``first``.

    Raises ValueError unless ``0 < first <= second``.
    """
    if not 0 < first <= second:
        raise ValueError(f"no proof from size {first} to size {second}")
    begin, end = 0, second
    path: list[Range] = []
    while end != first:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    if begin:
        path.append((begin, end))
    return [range_hash(span, node) for span in reversed(path)]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that ``leaf`` (a leaf hash) stands at ``index``; RFC 9162 2.1.3.2.

    Raises ProofError.
    """
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of size {size}")
    _check_hashes([leaf, *proof])
    position, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the proof is too long")
        if position & 1 or position == last:
            current = node_hash(sibling, current)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProofError("the proof is too short")
    if not hmac.compare_digest(current, root):
        raise ProofError("the proof leads to another root")


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Check that the first tree is a prefix of the second; RFC 9162 2.1.4.2.

    Raises ProofError; also for ``first == 0``, which every tree would satisfy.
    """
    if not 0 < first <= second:
        raise ProofError(f"no proof from size {first} to size {second}")
    if first == second:
        if proof or not hmac.compare_digest(first_root, second_root):
            raise ProofError("equal sizes need equal roots and an empty proof")
        return
    _check_hashes(proof)
    if not proof:
        raise ProofError("the proof is empty")
    hashes = list(proof)
    if first & (first - 1) == 0:
        # A perfect first tree is itself the first node, so proofs leave it out.
        hashes.insert(0, first_root)
    old, new = _climb_both(first - 1, second - 1, hashes)
    if not hmac.compare_digest(old, first_root):
        raise ProofError("the proof leads to another first root")
    if not hmac.compare_digest(new, second_root):
        raise ProofError("the proof leads to another second root")


def _climb_both(position: int, last: int, hashes: list[bytes]) -> tuple[bytes, bytes]:
    """Rebuild both roots from a consistency proof: (first root, second root)."""
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofError("the proof is too long")
        if position & 1 or position == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProofError("the proof is too short")
    return old, new


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(value) != HASH_SIZE for value in hashes):
        raise ProofError(f"a hash has {HASH_SIZE} bytes")


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Join perfect subtrees, widest first, into the root of the tree that they make up."""
    if not hashes:
        return EMPTY_ROOT
    current = hashes[-1]
    for left in reversed(hashes[:-1]):
        current = node_hash(left, current)
    return current


def _split(size: int) -> int:
    """The largest power of two below ``size`` (which is at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)
