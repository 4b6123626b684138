"""The published file of a distribution: every address with its cumulative wei, as canonical JSON.

Its bytes are those of RFC 8785, written and read piece by piece, so that a million leaves need no
million objects. The SHA-256 of the file goes on the chain with the root (`LeavesPublished`), and
whoever has the file rebuilds the tree from it. Keys stand in the order of their names, so chain
and contract come before the leaves, root and total after them:

    {"chain_id":"31337","distributor":"0x…","epoch":1,"format":"openledger-distribution-1",
     "leaf_encoding":[…],"leaves":[["0x…","100"],…],"root":"0x…","total":"100"}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ledger.chain import distribution
from ledger.chain.distribution import LEAF_ENCODING, DistributionError, Tree

FORMAT = "openledger-distribution-1"
PIECE = 1 << 20
HEADER_LIMIT = 4096

_OPENING = '"leaves":['
_LEAF = re.compile(r'\["(0x[0-9A-Fa-f]{40})","([1-9][0-9]{0,38})"\]([,\]])')


@dataclass(frozen=True)
class Published:
    """A file that was read: its hash, what it says, and the tree that its leaves make."""

    sha256: str
    epoch: int
    root: str
    total: int
    tree: Tree

    @property
    def problems(self) -> list[str]:
        """What the file says about itself and its leaves do not bear out."""
        found = []
        if self.root != self.tree.root_hex:
            found.append(f"The file names the root {self.root}; its leaves make another.")
        if self.total != self.tree.total:
            found.append(f"The file names {self.total} wei in all, its leaves {self.tree.total}.")
        return found


def write(stream: BinaryIO, *, epoch: int, tree: Tree) -> None:
    """Write the file of `tree`'s leaves."""
    head = {
        "chain_id": str(tree.chain_id),
        "distributor": tree.distributor,
        "epoch": epoch,
        "format": FORMAT,
        "leaf_encoding": list(LEAF_ENCODING),
    }
    stream.write((json.dumps(head, separators=(",", ":"))[:-1] + "," + _OPENING).encode("ascii"))
    rows: list[str] = []
    for number, (account, cumulative) in enumerate(tree.leaves()):
        rows.append(f'{"," if number else ""}["{account}","{cumulative}"]')
        if len(rows) == distribution.ROWS:
            stream.write("".join(rows).encode("ascii"))
            rows.clear()
    rows.append(f'],"root":"{tree.root_hex}","total":"{tree.total}"}}')
    stream.write("".join(rows).encode("ascii"))


def read(path: Path) -> Published:
    """Rebuild the tree from the file at `path`.

    Raises DistributionError where the file is none of ours, is cut short, or holds an address
    twice; whether root and total are right is told by `problems`.
    """
    with path.open("rb") as stream:
        reader = _Reader(stream)
        head = reader.head()
        tree = distribution.build(
            chain_id=int(head["chain_id"]),
            distributor=head["distributor"],
            amounts=reader.leaves(),
        )
        foot = reader.foot()
    return Published(
        sha256=reader.digest.hexdigest(),
        epoch=int(head["epoch"]),
        root=str(foot.get("root", "")),
        total=int(foot.get("total", "0")),
        tree=tree,
    )


class _Reader:
    """The three parts of the file, one after the other, a piece of it in memory at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()
        self.text = ""

    def head(self) -> dict[str, Any]:
        self._more()
        end = self.text.find(_OPENING, 0, HEADER_LIMIT)
        if end < 0:
            raise DistributionError("This is no file of leaves: it has no list of them.")
        head = _object(self.text[:end].rstrip(",") + "}")
        if head.get("format") != FORMAT or head.get("leaf_encoding") != list(LEAF_ENCODING):
            raise DistributionError(f"This is no file of leaves of the format {FORMAT}.")
        missing = {"chain_id", "distributor", "epoch"} - head.keys()
        if missing:
            raise DistributionError(f"The file does not say its {', '.join(sorted(missing))}.")
        self.text = self.text[end + len(_OPENING) :]
        return head

    def leaves(self) -> Iterator[tuple[str, int]]:
        while True:
            place = 0
            while (match := _LEAF.match(self.text, place)) is not None:
                yield match[1], int(match[2])
                place = match.end()
                if match[3] == "]":
                    self.text = self.text[place:]
                    return
            self.text = self.text[place:]
            if not self._more():
                raise DistributionError(
                    f"The list of leaves cannot be read on from {self.text[:80]!r}."
                )

    def foot(self) -> dict[str, Any]:
        while self._more():
            if len(self.text) > HEADER_LIMIT:
                raise DistributionError("There is more behind the list of leaves than belongs.")
        return _object("{" + self.text.removeprefix(","))

    def _more(self) -> bool:
        # A leaf is far shorter than this: what could not be read by then will not be.
        if len(self.text) > HEADER_LIMIT:
            return False
        piece = self.stream.read(PIECE)
        self.digest.update(piece)
        try:
            self.text += piece.decode("ascii")
        except UnicodeDecodeError as error:
            raise DistributionError("This is no file of leaves: it is not plain text.") from error
        return bool(piece)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DistributionError(f"The file is cut short or was changed: {error}.") from error
    if not isinstance(found, dict):
        raise DistributionError("This is no file of leaves.")
    return found
