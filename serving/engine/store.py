"""Packed adapters on disk, by name, read by mmap: ten thousand registered ones cost an index.

Blobs lie in a few large pack files, since each mapping keeps a descriptor. A blob's bytes are
written before its record in the index, so that whatever a crash leaves behind is not seen. Several
processes may share a folder. The store is a cache of what can be packed again: it may be deleted
while nobody uses it.

Two tiers: `warm` blobs are mapped and paged in, up to a budget in bytes, the longest unused ones go
first and pinned ones never; all others wait on disk. Dropping a blob never hurts a row that reads
it: its pages come back from the file. A pack that is deleted meanwhile stays readable to who has it
mapped; to others its blobs are as if they had never been added, and can be added again. A pack that
was cut short in place is lost, too: its length is asked for when a blob is handed out, and by who
goes on reading one (`holds`). Who reads a page that it no longer has is ended (SIGBUS), unless the
mapping is guarded, as the native step does; then it reads zeros, and asks afterwards, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PACK_BYTES = 1 << 30
PAGE = mmap.PAGESIZE
RECORD = struct.Struct("<32sIIQQ8x")  # name, pack, zero, offset, size


@dataclass(slots=True)
class Warm:
    """A blob in memory. `address` is valid as long as the store is open and `holds` it."""

    address: int
    size: int
    load_seconds: float
    hits: int = 0
    pinned: bool = False
    pack: int = -1  # -1: none, it lies in memory of its own
    end: int = 0  # in its pack


@dataclass(frozen=True, slots=True)
class Tiers:
    """What the store holds: counts and bytes."""

    registered: int
    warm: int
    warm_bytes: int
    pinned: int
    evicted: int


class AdapterStore:
    """Thread-safe."""

    def __init__(
        self,
        folder: Path,
        *,
        warm_bytes: int = 2 << 30,
        check: Callable[[memoryview], None] | None = None,
        guard: Callable[[int, int], Callable[[], object]] | None = None,
    ) -> None:
        """`check` looks at each blob before it is used for the first time; may raise.

        `guard` takes the address and size of each mapping and returns what ends its care.
        """
        self._check, self._guard = check, guard
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._budget = folder, warm_bytes
        self._index = folder / "index"
        self._index.touch()
        self._read = 0  # bytes of the index that are known
        self._places: dict[bytes, bytes] = {}  # name -> the rest of its record
        self._maps: dict[int, mmap.mmap] = {}
        self._addresses: dict[int, int] = {}
        self._warm: OrderedDict[str, Warm] = OrderedDict()
        self._warm_bytes = 0
        self._evicted = 0
        self._lock = threading.Lock()
        self._refresh()

    def __contains__(self, name: str) -> bool:
        with self._lock, contextlib.suppress(KeyError):
            return bool(self._located(name))
        return False

    def add(self, name: str, blob: bytes) -> None:
        """Write a blob under `name` (64 hexadecimal digits); nothing where it is there already."""
        self.add_all([(name, blob)])

    def add_all(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """`add` for many, on the disk together."""
        with self._lock, self._alone():
            written: dict[bytes, bytes] = {}
            packs: set[int] = set()
            pack, end = self._end()
            for name, blob in blobs:
                if len(blob) > PACK_BYTES:
                    raise ValueError("An adapter is larger than a pack file.")
                key = bytes.fromhex(name)
                if key in written or key in self._places:
                    continue
                if end + len(blob) > PACK_BYTES:
                    pack, end = pack + 1, 0
                self._write(pack, end, blob)
                written[key] = RECORD.pack(key, pack, 0, end, len(blob))
                packs.add(pack)
                end = -(-(end + len(blob)) // PAGE) * PAGE
            for number in packs:
                with self._pack(number).open("rb") as file:
                    os.fsync(file.fileno())
            with self._index.open("r+b") as index:
                index.seek(self._read)
                index.truncate()  # half a record, where a writer died
                index.write(b"".join(written.values()))
            self._refresh()

    def warm(self, name: str) -> Warm:
        """The blob in memory, every page of it touched. Raises KeyError, or what `check` does."""
        with self._lock:
            found = self._warm.get(name)
            if found is not None and not self._is_whole(found.pack):
                self._forget(found.pack)
                found = None
            if found is not None:
                self._warm.move_to_end(name)
                found.hits += 1
                return found
            pack, offset, size = self._located(name)
            address = self._addresses[pack] + offset
            view = memoryview(self._maps[pack])[offset : offset + size]
        started = time.perf_counter()
        self._ask_for(pack, offset, size)
        try:
            _touch(address, size)
            if self._check is not None:
                self._check(view)
        finally:  # whatever was found in a pack that was cut short meanwhile says nothing
            with self._lock:
                self._still_whole(pack, name)
        seconds = time.perf_counter() - started
        with self._lock:
            # Another thread may have been faster; one of the two records stays.
            warm = Warm(address, size, seconds, pack=pack, end=offset + size)
            found = self._warm.setdefault(name, warm)
            if found.hits == 0:
                self._warm_bytes += size
            found.hits += 1
            self._make_room(name)
            return found

    def holds(self, blobs: Iterable[Warm]) -> bool:
        """Whether all of them were there to be read; for after a step, one call for each pack."""
        ends: dict[int, int] = {}
        for one in blobs:
            if one.pack >= 0:
                ends[one.pack] = max(one.end, ends.get(one.pack, 0))
        return all(self._maps[pack].size() >= end for pack, end in ends.items())

    def pin(self, name: str, pinned: bool = True) -> None:
        """Keep a blob warm whatever else is asked for, or no longer. Raises KeyError."""
        self.warm(name)
        with self._lock:
            self._warm[name].pinned = pinned

    def view(self, name: str) -> memoryview:
        """The blob's bytes, for checks. Raises KeyError."""
        with self._lock:
            pack, offset, size = self._located(name)
            return memoryview(self._maps[pack])[offset : offset + size]

    def tiers(self) -> Tiers:
        with self._lock:
            return Tiers(
                registered=len(self._places),
                warm=len(self._warm),
                warm_bytes=self._warm_bytes,
                pinned=sum(one.pinned for one in self._warm.values()),
                evicted=self._evicted,
            )

    def residents(self) -> dict[str, Warm]:
        """The warm blobs by name, the longest unused first."""
        with self._lock:
            for pack in {one.pack for one in self._warm.values()}:
                if not self._is_whole(pack):
                    self._forget(pack)
            return dict(self._warm)

    def names(self) -> Iterator[str]:
        with self._lock:
            return iter([name.hex() for name in self._places])

    # With the lock held.

    def _place(self, name: str) -> tuple[int, int, int] | None:
        try:
            key = bytes.fromhex(name)
        except ValueError:
            return None
        rest = self._places.get(key)
        if rest is None:
            self._refresh()
            rest = self._places.get(key)
        return None if rest is None else struct.unpack("<IQQ", rest)

    def _refresh(self) -> None:
        """Read what this or another process has added to the index."""
        size = self._index.stat().st_size
        whole = size - size % RECORD.size
        if whole <= self._read:
            return
        with self._index.open("rb") as index:
            index.seek(self._read)
            data = index.read(whole - self._read)
        for name, pack, _, offset, length in RECORD.iter_unpack(data):
            self._places[name] = struct.pack("<IQQ", pack, offset, length)
        self._read = whole

    def _end(self) -> tuple[int, int]:
        """Pack and offset behind the last blob."""
        if not self._read:
            return 0, 0
        with self._index.open("rb") as index:
            index.seek(self._read - RECORD.size)
            _, pack, _, offset, length = RECORD.unpack(index.read(RECORD.size))
        file = self._pack(pack)
        if not file.is_file() or file.stat().st_size < PACK_BYTES:
            # Lost: others may have it mapped still, so its number is not given again.
            return pack + 1, 0
        return pack, -(-(offset + length) // PAGE) * PAGE

    def _write(self, pack: int, offset: int, blob: bytes) -> None:
        descriptor = os.open(self._pack(pack), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if os.fstat(descriptor).st_size < PACK_BYTES:
                os.ftruncate(descriptor, PACK_BYTES)  # sparse: mapped once, as a whole
            written = 0
            while written < len(blob):
                written += os.pwrite(descriptor, blob[written:], offset + written)
        finally:
            os.close(descriptor)

    def _located(self, name: str) -> tuple[int, int, int]:
        """Pack, offset and size of a blob whose pack is mapped. Raises KeyError."""
        while (place := self._place(name)) is not None:
            if self._map(place[0]):
                return place
            self._forget(place[0])
        raise KeyError(name)

    def _forget(self, pack: int) -> None:
        """What a lost pack held; another process may have added it again.

        It stays mapped: rows that run may read what is left of it.
        """
        for key in [key for key, rest in self._places.items() if _pack_of(rest) == pack]:
            del self._places[key]
        for name in [name for name, one in self._warm.items() if one.pack == pack]:
            self._warm_bytes -= self._warm.pop(name).size

    def _still_whole(self, pack: int, name: str) -> None:
        """For who has just read a blob. Raises KeyError."""
        if not self._is_whole(pack):
            self._forget(pack)
            raise KeyError(name)

    def _is_whole(self, pack: int) -> bool:
        """Whether a mapped pack's file is as long as it was made: one fstat of what mmap keeps."""
        return self._maps[pack].size() >= PACK_BYTES

    def _map(self, pack: int) -> bool:
        """False where the file is gone, or too short."""
        if pack in self._maps:
            return self._is_whole(pack)
        try:
            with self._pack(pack).open("rb") as file:
                found = mmap.mmap(file.fileno(), PACK_BYTES, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):
            return False
        self._maps[pack] = found
        self._addresses[pack] = int(np.frombuffer(found, np.uint8).ctypes.data)
        if self._guard is not None:
            weakref.finalize(self, self._guard(self._addresses[pack], PACK_BYTES))
        return True

    def _ask_for(self, pack: int, offset: int, size: int) -> None:
        """One read of the disk for all pages rather than one for each few of them."""
        with contextlib.suppress(OSError, AttributeError):
            self._maps[pack].madvise(mmap.MADV_WILLNEED, offset, -(-size // PAGE) * PAGE)

    def _make_room(self, kept: str) -> None:
        for name in list(self._warm):
            if self._warm_bytes <= self._budget:
                return
            one = self._warm[name]
            if one.pinned or name == kept:
                continue
            del self._warm[name]
            self._warm_bytes -= one.size
            self._evicted += 1
            place = self._place(name)
            # Another process may have added it again, to a pack that is not mapped here.
            if place is not None and place[0] in self._maps:
                pack, offset, size = place
                length = -(-size // PAGE) * PAGE
                with contextlib.suppress(OSError, AttributeError):
                    self._maps[pack].madvise(mmap.MADV_DONTNEED, offset, length)

    def _pack(self, number: int) -> Path:
        return self._folder / f"pack-{number:06}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer among the processes; others' records are known inside."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._refresh()
            yield


def _pack_of(rest: bytes) -> int:
    pack: int = struct.unpack("<IQQ", rest)[0]
    return pack


def _touch(address: int, size: int) -> None:
    """Read a byte of each page, so that a step never waits for the disk."""
    pages = (ctypes.c_char * size).from_address(address)
    bytes(memoryview(pages)[::PAGE])
