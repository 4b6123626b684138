"""Tiles and the log on them: a published log is read, ours is laid out alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.translog import merkle
from attribution.translog.checkpoint import SigningKey, VerifierKey, open_checkpoint
from attribution.translog.log import Log
from attribution.translog.tiles import (
    FolderStore,
    MemoryStore,
    Store,
    Tile,
    TileError,
    TileReader,
    decode_bundle,
    decode_hashes,
    encode_bundle,
    parse_path,
    tiles_for,
)

TESSERA = Path(__file__).resolve().parents[4] / "shared/vectors/tessera-tlog-tiles/testdata/log"
ORIGIN = "example.com/log/testdata"
TESSERA_KEY = f"{ORIGIN}+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"

needs_tessera = pytest.mark.skipif(
    not TESSERA.is_dir(), reason=f"no public test vectors in {TESSERA}"
)


@needs_tessera
@pytest.mark.parametrize("size", range(16))
def test_a_published_log_adds_up_at_every_size(size: int) -> None:
    note = (TESSERA / f"checkpoint.{size}").read_text()
    checkpoint = open_checkpoint(note, [VerifierKey.parse(TESSERA_KEY)], ORIGIN)
    assert checkpoint.size == size
    log = Log(FolderStore(TESSERA), ORIGIN)
    assert log.head(size).root == checkpoint.root
    reader = TileReader(log.store, size)
    entries = reader.entries(0) if size else []
    assert merkle.root(entries) == checkpoint.root
    for index, entry in enumerate(entries):
        proof = log.inclusion_proof(index, size)
        leaf = merkle.leaf_hash(entry)
        merkle.verify_inclusion(leaf, index, size, proof, checkpoint.root)
    for first in range(1, size + 1):
        proof = log.consistency_proof(first, size)
        old = log.head(first).root
        merkle.verify_consistency(first, size, proof, old, checkpoint.root)


@needs_tessera
def test_we_lay_out_the_published_log_byte_for_byte() -> None:
    entries = TileReader(FolderStore(TESSERA), 15).entries(0)
    ours = MemoryStore()
    log = Log(ours, ORIGIN)
    for size, entry in enumerate(entries):
        log.append(size, [entry])
    for path, data in ours.files.items():
        assert (TESSERA / path).read_bytes() == data
    theirs = {
        str(path.relative_to(TESSERA)) for path in (TESSERA / "tile").rglob("*") if path.is_file()
    }
    assert set(ours.files) == theirs


def entries_of(count: int) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(count)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=5))
def test_batches_of_any_size_make_the_same_tree(batches: list[int]) -> None:
    entries = entries_of(sum(batches))
    log = Log(MemoryStore(), ORIGIN)
    size = 0
    for batch in batches:
        head = log.append(size, entries[size : size + batch])
        size += batch
        assert head.root == merkle.root(entries[:size])
    for index in {0, size // 2, size - 1} if size else set():
        assert log.entry(index, size) == entries[index]
        proof = log.inclusion_proof(index, size)
        leaf = merkle.leaf_hash(entries[index])
        merkle.verify_inclusion(leaf, index, size, proof, head.root)


def test_a_tree_of_seventy_thousand_has_the_tiles_of_the_specification() -> None:
    store = MemoryStore()
    head = Log(store, ORIGIN).append(0, entries_of(70_000))
    assert head.root == merkle.root(entries_of(70_000))
    levels = [[t for t in map(parse_path, store.files) if t.level == n] for n in range(3)]
    assert [len([t for t in level if t.width == 256]) for level in levels] == [273, 1, 0]
    assert [[t.width for t in level if t.width < 256] for level in levels] == [[112], [17], [1]]
    assert all(len(store.files[t.path]) == 32 * t.width for level in levels for t in level)


def test_a_batch_that_was_cut_short_is_appended_again() -> None:
    class Breaking(MemoryStore):
        left = 3

        def write(self, path: str, data: bytes) -> None:
            self.left -= 1
            if not self.left:
                raise OSError("disk full")
            super().write(path, data)

    store = Breaking()
    log = Log(store, ORIGIN)
    log.append(0, [])
    with pytest.raises(OSError, match="disk full"):
        log.append(0, entries_of(600))
    other = [b"other " + entry for entry in entries_of(300)]
    assert log.append(0, other).root == merkle.root(other)
    assert log.append(300, entries_of(300)).root == merkle.root([*other, *entries_of(300)])


def test_a_lost_partial_tile_is_read_from_the_full_one() -> None:
    store = MemoryStore()
    log = Log(store, ORIGIN)
    log.append(0, entries_of(100))
    log.append(100, entries_of(256)[100:])
    for path in [path for path in store.files if path.endswith(".p/100")]:
        del store.files[path]
    assert log.head(100).root == merkle.root(entries_of(100))
    assert log.entry(99, 100) == b"entry 99"


def test_an_entry_that_is_too_long_writes_nothing() -> None:
    store = MemoryStore()
    with pytest.raises(TileError):
        Log(store, ORIGIN).append(0, [b"fits", b"x" * 65_536])
    assert store.files == {}


def test_a_published_checkpoint_is_what_readers_find(tmp_path: Path) -> None:
    key = SigningKey(ORIGIN, Ed25519PrivateKey.generate())
    log = Log(FolderStore(tmp_path), ORIGIN)
    head = log.append(0, entries_of(3))
    log.publish(log.sign(head, [key]))
    note = log.store.read("checkpoint").decode()
    assert open_checkpoint(note, [key.verifier], ORIGIN).root == head.root


@pytest.mark.parametrize("make", [lambda _: MemoryStore(), FolderStore])
def test_a_store_says_when_nothing_is_there(tmp_path: Path, make: type[FolderStore]) -> None:
    store: Store = make(tmp_path)
    with pytest.raises(FileNotFoundError):
        store.read("tile/0/000")


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(1, 1_234_067), "tile/1/x001/x234/067"),
        (Tile(None, 1000, 8), "tile/entries/x001/000.p/8"),
        (Tile(63, 999, 255), "tile/63/999.p/255"),
    ],
)
def test_a_path_has_one_spelling(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/001/000",
        "tile/0/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/999",
        "tile/-1/000",
        "tile/0/000/",
        "tile/entries/../000",
        "tile/0/000\n",
        "tile/0/\u0660\u0660\u0660",
    ],
)
def test_other_spellings_of_a_path_are_refused(path: str) -> None:
    with pytest.raises(TileError):
        parse_path(path)


@given(st.none() | st.integers(0, 63), st.integers(0, 10**9), st.integers(1, 256))
def test_every_tile_is_found_by_its_path(level: int | None, index: int, width: int) -> None:
    assert parse_path(Tile(level, index, width).path) == Tile(level, index, width)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_goes_round(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries)) == entries


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x02a", b"\x00\x00\x01"])
def test_a_torn_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(TileError):
        decode_bundle(data)


def test_a_torn_tile_is_refused() -> None:
    with pytest.raises(TileError):
        decode_hashes(b"\x00" * 33, 1)


def test_what_a_tree_does_not_have_is_refused() -> None:
    store = MemoryStore()
    Log(store, ORIGIN).append(0, entries_of(300))
    reader = TileReader(store, 300)
    for read in (lambda: reader.hashes(0, 2), lambda: reader.entries(2), lambda: reader.node(9, 0)):
        with pytest.raises(TileError):
            read()
    assert list(tiles_for(0, 300, 300)) == []
    assert Tile(0, 1, 44).fits(300)
    assert not Tile(0, 1, 45).fits(300)
