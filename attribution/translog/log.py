"""An append-only log on tiles: append a batch, sign its head, read and prove.

The caller owns the order of the entries and the size that counts (a database row, a checkpoint);
the log owns the files. Appending writes entries and tiles before it answers, so that a head is
signed only over what stands in the store; a batch that was cut short is simply appended again from
the same size. One writer at a time: the caller holds the lock.

Cost of a batch of n: n leaf hashes, fewer than n node hashes more, and the files that it touches
(about 2 n / 256, and one for each level above).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attribution.translog import merkle, tiles
from attribution.translog.checkpoint import Checkpoint, SigningKey, sign_checkpoint
from attribution.translog.tiles import HEIGHT, WIDTH, Store, Tile, TileReader

CHECKPOINT_PATH = "checkpoint"


@dataclass(frozen=True)
class Head:
    """Root (32 bytes) over the first ``size`` leaves."""

    size: int
    root: bytes


class Log:
    """A log in a store, under one origin."""

    def __init__(self, store: Store, origin: str) -> None:
        self.store = store
        self.origin = origin

    def head(self, size: int) -> Head:
        return Head(size, merkle.root_at(size, TileReader(self.store, size).node))

    def append(self, size: int, entries: Sequence[bytes]) -> Head:
        """Write ``entries`` behind the first ``size`` ones; the new head.

        Raises TileError for an entry that is too long, before anything is written.
        """
        new = size + len(entries)
        for entry in entries:
            if len(entry) > tiles.MAX_ENTRY:
                raise tiles.TileError(f"an entry has {len(entry)} bytes, too many")
        self._write_bundles(size, entries)
        self._write_hashes(size, new, [merkle.leaf_hash(entry) for entry in entries])
        return self.head(new)

    def sign(self, head: Head, keys: Sequence[SigningKey]) -> str:
        """The checkpoint of a head, as a signed note."""
        return sign_checkpoint(Checkpoint(self.origin, head.size, head.root), keys)

    def publish(self, note: str) -> None:
        """Make a signed checkpoint the one that readers find."""
        self.store.write(CHECKPOINT_PATH, note.encode())

    def entry(self, index: int, size: int) -> bytes:
        return TileReader(self.store, size).entry(index)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        return merkle.inclusion_proof(index, size, TileReader(self.store, size).node)

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        return merkle.consistency_proof(first, second, TileReader(self.store, second).node)

    def _write_bundles(self, size: int, entries: Sequence[bytes]) -> None:
        old = TileReader(self.store, size)
        for tile in tiles.tiles_for(0, size, size + len(entries)):
            begin = tile.index * WIDTH
            kept = old.entries(tile.index) if begin < size else []
            first = max(begin, size)
            added = entries[first - size : begin + tile.width - size]
            bundle = Tile(None, tile.index, tile.width)
            self.store.write(bundle.path, tiles.encode_bundle([*kept, *added]))

    def _write_hashes(self, old_size: int, new_size: int, fresh: list[bytes]) -> None:
        """Write the tiles of every level; ``fresh`` are the hashes that level 0 gained."""
        old = TileReader(self.store, old_size)
        level = 0
        while fresh:
            count = old_size >> (HEIGHT * level)
            above: list[bytes] = []
            for tile in tiles.tiles_for(level, old_size, new_size):
                begin = tile.index * WIDTH
                kept = old.hashes(level, tile.index) if begin < count else []
                added = fresh[max(begin, count) - count : begin + tile.width - count]
                hashes = [*kept, *added]
                self.store.write(tile.path, tiles.encode_hashes(hashes))
                if tile.width == WIDTH:
                    above.append(merkle.root_of_hashes(hashes))
            fresh = above
            level += 1
