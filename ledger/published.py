"""The two files of a distribution: the leaves, from which anyone rebuilds the tree, and its nodes.

The file of leaves is canonical JSON (RFC 8785) and its SHA-256 goes on the chain with the root.
The file of nodes is the tree's array, 32 bytes a node, so that a proof is a few short reads
whatever the number of leaves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, overload

from accounts import blobs
from attribution.translog import canonical
from ledger.chain import distribution as trees

NODE = 32


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


def data_file(epoch: int, tree: trees.Tree) -> bytes:
    """The file of leaves: what the tree is of, and every address with its cumulative wei."""
    return canonical.dumps(
        {
            "format": "openledger-distribution-1",
            "leaf_encoding": list(trees.LEAF_ENCODING),
            "chain_id": str(tree.chain_id),
            "distributor": tree.distributor,
            "epoch": epoch,
            "root": tree.root_hex,
            "total": str(tree.total),
            "leaves": [[account, str(cumulative)] for account, cumulative in tree.leaves],
        }
    )


@contextmanager
def open_nodes(nodes_sha256: str, leaf_count: int) -> Iterator[NodeFile]:
    """The stored nodes of a tree. Raises FileNotFoundError where the store has lost them."""
    with blobs.open_blob(nodes_sha256) as stream:
        yield NodeFile(stream, 2 * leaf_count - 1)


def proof(nodes_sha256: str, leaf_count: int, position: int) -> tuple[bytes, ...]:
    """The proof of the leaf at `position`, from the leaf's sibling up."""
    with open_nodes(nodes_sha256, leaf_count) as nodes:
        return trees.proof(nodes, position)
