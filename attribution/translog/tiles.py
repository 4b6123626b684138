"""Tiles of a transparency log as C2SP tlog-tiles lays them out.

A tile at level ``L`` holds up to 256 hashes, each the root of ``256**L`` leaves; an entry bundle
holds up to 256 entries, each behind its length as big-endian uint16. Every file but the rightmost
of its level is full and never changes; a partial one carries its width in its name, so that it
never changes either.

A ``Reader`` is anything that has bytes under such paths, a ``Store`` one that also keeps them: a
folder, an object store, a dict.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from attribution.translog import merkle

WIDTH = 256
HEIGHT = 8
MAX_LEVEL = 63
MAX_ENTRY = 0xFFFF

_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


class TileError(ValueError):
    """A path or a tile is not what the layout says."""


class Reader(Protocol):
    """Bytes under relative paths with forward slashes: all that proofs and witnesses need."""

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError where nothing stands."""


class Store(Reader, Protocol):
    """A Reader that keeps what it is given, as only the log's one writer does."""

    def write(self, path: str, data: bytes) -> None:
        """Write or replace, visible only when whole."""


class MemoryStore:
    """A Store in a dict."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, path: str) -> bytes:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def write(self, path: str, data: bytes) -> None:
        self.files[path] = data


class FolderStore:
    """A Store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)


@dataclass(frozen=True)
class Tile:
    """Where a tile or bundle stands: ``level`` is None for an entry bundle."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        digits = f"{self.index % 1000:03d}"
        rest = self.index // 1000
        while rest:
            digits = f"x{rest % 1000:03d}/{digits}"
            rest //= 1000
        level = "entries" if self.level is None else self.level
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{digits}{partial}"

    def fits(self, size: int) -> bool:
        """Whether the tree of ``size`` leaves has all hashes (or entries) of this tile."""
        return self.index * WIDTH + self.width <= size >> (HEIGHT * (self.level or 0))


def parse_path(path: str) -> Tile:
    """The tile that a path names.

    Raises TileError for anything but the one spelling of a tile.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise TileError(f"not the path of a tile: {path}")
    level = None if match["level"] == "entries" else int(match["level"])
    width = WIDTH if match["width"] is None else int(match["width"])
    index = int(match["index"].replace("x", "").replace("/", ""))
    tile = Tile(level, index, width)
    if tile.path != path or (level or 0) > MAX_LEVEL or width > WIDTH:
        raise TileError(f"not the path of a tile: {path}")
    return tile


def tiles_for(level: int, old: int, new: int) -> Iterator[Tile]:
    """The tiles of a level that a tree growing from ``old`` to ``new`` leaves must write."""
    first, last = old >> (HEIGHT * level), new >> (HEIGHT * level)
    if last > first:
        for index in range(first // WIDTH, (last - 1) // WIDTH + 1):
            yield Tile(level, index, min(WIDTH, last - index * WIDTH))


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Raises TileError for an entry that is longer than MAX_ENTRY bytes."""
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise TileError(f"an entry has {len(entry)} bytes, at most {MAX_ENTRY} fit")
        parts += [len(entry).to_bytes(2), entry]
    return b"".join(parts)


def decode_bundle(data: bytes) -> list[bytes]:
    """Raises TileError where the bytes do not add up."""
    entries = []
    offset = 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 2])
        offset += 2
        entry = data[offset : offset + length]
        if offset > len(data) or len(entry) != length:
            raise TileError("the bundle ends within an entry")
        entries.append(entry)
        offset += length
    return entries


def encode_hashes(hashes: Sequence[bytes]) -> bytes:
    return b"".join(hashes)


def decode_hashes(data: bytes, width: int) -> list[bytes]:
    """Raises TileError unless ``data`` is exactly ``width`` hashes."""
    if len(data) != width * merkle.HASH_SIZE:
        raise TileError(f"a tile of width {width} has {len(data)} bytes")
    step = merkle.HASH_SIZE
    return [data[at : at + step] for at in range(0, len(data), step)]


class TileReader:
    """Reads the tree of ``size`` leaves from tiles; ``node`` is a NodeReader for proofs."""

    def __init__(self, store: Reader, size: int, cached: int = 64) -> None:
        self.store = store
        self.size = size
        self._cached = cached
        self._tiles: OrderedDict[Tile, list[bytes]] = OrderedDict()

    def node(self, level: int, index: int) -> bytes:
        """Hash of the complete subtree ``[index * 2**level, (index + 1) * 2**level)``."""
        tile_level, rise = divmod(level, HEIGHT)
        start = index << rise
        hashes = self.hashes(tile_level, start // WIDTH)
        offset = start % WIDTH
        chosen = hashes[offset : offset + (1 << rise)]
        if len(chosen) != 1 << rise:
            raise TileError(f"the tree of size {self.size} has no subtree {level}/{index}")
        return merkle.root_of_hashes(chosen)

    def hashes(self, level: int, index: int) -> list[bytes]:
        """The hashes of a tile, as wide as the tree makes it.

        Raises TileError for a tile that the tree does not have, FileNotFoundError for a lost one.
        """
        width = min(WIDTH, (self.size >> (HEIGHT * level)) - index * WIDTH)
        if width <= 0:
            raise TileError(f"the tree of size {self.size} has no tile {level}/{index}")
        tile = Tile(level, index, width)
        found = self._tiles.get(tile)
        if found is None:
            found = decode_hashes(read_wide(self.store, tile, width * merkle.HASH_SIZE), width)
            self._tiles[tile] = found
            if len(self._tiles) > self._cached:
                self._tiles.popitem(last=False)
        return found

    def entries(self, index: int) -> list[bytes]:
        """The entries of a bundle, as many as the tree has."""
        width = min(WIDTH, self.size - index * WIDTH)
        if width <= 0:
            raise TileError(f"the tree of size {self.size} has no bundle {index}")
        entries = decode_bundle(read_wide(self.store, Tile(None, index, width), None))
        if len(entries) < width:
            raise TileError(f"bundle {index} holds {len(entries)} entries instead of {width}")
        return entries[:width]

    def entry(self, index: int) -> bytes:
        return self.entries(index // WIDTH)[index % WIDTH]


def read_wide(store: Reader, tile: Tile, length: int | None) -> bytes:
    """Read a tile; a partial one may be gone once the full one stands, which begins alike."""
    try:
        data = store.read(tile.path)
    except FileNotFoundError:
        if tile.width == WIDTH:
            raise
        data = store.read(Tile(tile.level, tile.index).path)
    return data if length is None else data[:length]
