"""The two files of a distribution: the leaves, from which anyone rebuilds the tree, and its nodes.

The file of leaves is canonical JSON (RFC 8785) and its SHA-256 goes on the chain with the root.
The file of nodes is the tree's array, 32 bytes a node, the leaves last and in order of their hash,
so that a proof is some forty short reads whatever the number of leaves.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, cast, overload

from accounts import blobs
from ledger.chain import distribution as trees
from ledger.chain import leaf_file

NODE = trees.NODE


class NodeFile(Sequence[bytes]):
    """The nodes of a tree, read one by one from a file of `count` times 32 bytes."""

    def __init__(self, stream: BinaryIO, count: int) -> None:
        self._stream = stream
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(self._count))]
        if not 0 <= place < self._count:
            raise IndexError(place)
        self._stream.seek(place * NODE)
        return self._stream.read(NODE)


def store_leaves(epoch: int, tree: trees.Tree) -> str:
    """Store the file of leaves; returns its SHA-256."""
    with tempfile.NamedTemporaryFile() as file:
        leaf_file.write(cast(BinaryIO, file), epoch=epoch, tree=tree)
        file.flush()
        return blobs.put_file(file.name, "application/json").pk


def store_nodes(tree: trees.Tree) -> str:
    """Store the file of nodes; returns its SHA-256."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(tree.nodes.data)
        file.flush()
        return blobs.put_file(file.name, "application/octet-stream").pk


@contextmanager
def open_nodes(nodes_sha256: str, leaf_count: int) -> Iterator[NodeFile]:
    """The stored nodes of a tree. Raises FileNotFoundError where the store has lost them."""
    with blobs.open_blob(nodes_sha256) as stream:
        yield NodeFile(stream, 2 * leaf_count - 1)


def proof(nodes_sha256: str, leaf_count: int, leaf: bytes) -> tuple[bytes, ...]:
    """The proof of `leaf`, from its sibling up. Raises KeyError where the tree has no such leaf."""
    with open_nodes(nodes_sha256, leaf_count) as nodes:
        place = trees.place_of(nodes, leaf)
        if place is None:
            raise KeyError(leaf.hex())
        return trees.proof(nodes, place)
