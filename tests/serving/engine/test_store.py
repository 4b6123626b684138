"""Packed adapters survive their process, share few files and never lie about what they are."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from serving.engine import store as module
from serving.engine.blob import ENTRY, HEADER, MAGIC, check_blob
from serving.engine.engine import Engine
from serving.engine.native.build import library
from serving.engine.store import PAGE, RECORD, AdapterStore
from serving.engine.types import AdapterRejected, UnknownAdapter
from tests.serving.engine.conftest import prompt_of, request, tokens_of


def blobs(count: int, size: int = 6_000) -> list[tuple[str, bytes]]:
    made = [bytes([number % 251]) * (size + number) for number in range(count)]
    return [(hashlib.sha256(one).hexdigest(), one) for one in made]


def test_what_was_added_is_read_by_another_process_store(tmp_path: Path) -> None:
    first, second = AdapterStore(tmp_path), AdapterStore(tmp_path)
    made = blobs(20)
    for place, (name, blob) in enumerate(made):
        (first, second)[place % 2].add(name, blob)
    assert all(bytes(AdapterStore(tmp_path).view(name)) == blob for name, blob in made)
    assert all(bytes(first.view(name)) == blob for name, blob in made)


def test_a_full_pack_is_followed_by_another(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "PACK_BYTES", 4 * PAGE)
    held = AdapterStore(tmp_path)
    made = blobs(9, size=PAGE)
    held.add_all(made)
    assert len(list(tmp_path.glob("pack-*"))) == 9 // 2 + 1
    assert all(bytes(held.view(name)) == blob for name, blob in made)
    with pytest.raises(ValueError, match="larger"):
        held.add("0" * 64, bytes(5 * PAGE))


def test_a_record_that_a_crash_cut_off_is_not_seen_and_not_in_the_way(tmp_path: Path) -> None:
    made = blobs(2)
    AdapterStore(tmp_path).add(*made[0])
    with (tmp_path / "index").open("ab") as index:
        index.write(b"x" * (RECORD.size // 2))
    held = AdapterStore(tmp_path)
    held.add(*made[1])
    for again in (held, AdapterStore(tmp_path)):
        assert all(bytes(again.view(name)) == blob for name, blob in made)


def test_a_pack_that_was_deleted_is_read_on_and_packed_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "PACK_BYTES", 4 * PAGE)
    reader = AdapterStore(tmp_path)
    made = blobs(4, size=PAGE)
    reader.add_all(made)
    reader.warm(made[0][0])
    (tmp_path / "pack-000000").unlink()
    (tmp_path / "pack-000001").write_bytes(b"short")
    assert bytes(reader.view(made[0][0])) == made[0][1]  # as a row reads that runs
    late = AdapterStore(tmp_path)
    for name, _ in made:
        with pytest.raises(KeyError):
            late.warm(name)
    late.add_all(made)
    # What another process wrote is found by name again, and nothing of before is mistaken for it.
    for again in (reader, late, AdapterStore(tmp_path)):
        assert all(bytes(again.view(name)) == blob for name, blob in made)


def test_what_lay_in_a_pack_that_was_cut_short_is_forgotten_and_packed_again(
    tmp_path: Path,
) -> None:
    held = AdapterStore(tmp_path)
    made = blobs(3, size=PAGE)
    held.add_all(made)
    first, last = held.warm(made[0][0]), held.warm(made[2][0])
    held.pin(made[1][0])
    os.truncate(tmp_path / "pack-000000", 2 * PAGE)
    assert held.holds([first])  # its page is still there
    assert not held.holds([first, last])
    assert held.residents() == {}
    assert held.tiers().warm_bytes == 0
    for name, _ in made:
        assert name not in held
        for ask in (held.warm, held.view, held.pin):
            with pytest.raises(KeyError):
                ask(name)
    held.add_all(made)
    late = AdapterStore(tmp_path)
    for again in (held, late):
        assert all(again.holds([again.warm(name)]) for name, _ in made)
        assert all(bytes(again.view(name)) == blob for name, blob in made)


def test_the_longest_unused_go_first_and_pinned_ones_never(tmp_path: Path) -> None:
    held = AdapterStore(tmp_path, warm_bytes=20_000)
    made = blobs(5)
    held.add_all(made)
    names = [name for name, _ in made]
    held.pin(names[0])
    for name in names[1:4]:
        held.warm(name)
    held.warm(names[2])
    held.warm(names[4])
    assert list(held.residents()) == [names[0], names[2], names[4]]
    assert held.tiers().evicted == 2
    # What was dropped comes back from the file as it was.
    warm = held.warm(names[1])
    assert bytes(held.view(names[1])) == made[1][1]
    assert warm.size == len(made[1][1])


def test_many_threads_ask_for_the_same_adapters(tmp_path: Path) -> None:
    held = AdapterStore(tmp_path, warm_bytes=30_000)
    made = blobs(12)
    held.add_all(made)
    sizes = {name: len(blob) for name, blob in made}
    failed: list[str] = []

    def ask() -> None:
        failed.extend(
            name for _ in range(20) for name in sizes if held.warm(name).size != sizes[name]
        )

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tiers = held.tiers()
    assert not failed
    assert tiers.warm_bytes == sum(sizes[name] for name in held.residents()) <= 30_000


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
def test_an_adapter_is_validated_once_and_read_after_a_restart(
    base_folder, make_adapter, oracle, tmp_path
):
    name, folder = make_adapter(51)
    prompt = prompt_of(7)

    def unwanted() -> Path:
        raise AssertionError("It was packed already.")

    for source in (folder, unwanted):
        made = Engine(base_folder, backend="native", adapter_folder=tmp_path)
        try:
            made.ensure_adapter(name, source)
            assert made.residency().registered == 1
            assert tokens_of(made, request("q", prompt, adapter=name)) == oracle(prompt, 24, folder)
        finally:
            made.close()


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
def test_packs_deleted_while_a_row_decodes_change_no_token_and_are_made_again(
    base_folder, make_adapter, oracle, tmp_path
):
    name, folder = make_adapter(51)
    other, beside = make_adapter(52)
    prompt = prompt_of(7)
    first = Engine(base_folder, backend="native", adapter_folder=tmp_path)
    try:
        first.ensure_adapter(name, folder)
        with first.generate(request("running", prompt, adapter=name)) as tokens:
            got = [next(tokens)]
            for pack in tmp_path.glob("pack-*"):
                pack.unlink()
            first.ensure_adapter(other, beside)  # is packed into a file of its own
            assert tokens_of(first, request("new", prompt, adapter=other)) == oracle(
                prompt, 24, beside
            )
            got += list(tokens)
        assert [one.id for one in got if one.id is not None] == oracle(prompt, 24, folder)
    finally:
        first.close()
    second = Engine(base_folder, backend="native", adapter_folder=tmp_path)
    try:
        second.ensure_adapter(name, folder)
        assert tokens_of(second, request("q", prompt, adapter=name)) == oracle(prompt, 24, folder)
    finally:
        second.close()


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("left", [0, PAGE, 5 * PAGE])
def test_a_pack_cut_short_fails_its_own_rows_alone_and_is_made_again(
    base_folder, make_adapter, oracle, tmp_path, left
):
    """Whenever it happens: mostly while a step reads it."""
    name, folder = make_adapter(51)
    prompt = prompt_of(7)
    made = Engine(base_folder, backend="native", adapter_folder=tmp_path)
    try:
        made.ensure_adapter(name, folder)
        with (
            made.generate(request("base", prompt, max_tokens=150)) as base,
            made.generate(request("tuned", prompt, adapter=name, max_tokens=150)) as tuned,
        ):
            got = [next(base).id]
            next(tuned)
            os.truncate(tmp_path / "pack-000000", left)
            with pytest.raises(AdapterRejected, match="cut off on the disk"):
                list(tuned)
            got += [token.id for token in base]
        assert got == oracle(prompt, 150)
        with pytest.raises(UnknownAdapter):
            made.generate(request("late", prompt, adapter=name))
        made.ensure_adapter(name, folder)
        assert tokens_of(made, request("q", prompt, adapter=name)) == oracle(prompt, 24, folder)
    finally:
        made.close()


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
def test_an_adapter_that_is_cut_while_it_is_read_in_is_packed_again(
    base_folder, make_adapter, oracle, tmp_path, monkeypatch
):
    name, folder = make_adapter(51)
    prompt = prompt_of(7)
    first = Engine(base_folder, backend="native", adapter_folder=tmp_path)
    first.ensure_adapter(name, folder)
    first.close()
    touch = module._touch

    def cut_then_touch(address: int, size: int) -> None:
        monkeypatch.undo()
        os.truncate(tmp_path / "pack-000000", 0)
        touch(address, size)

    monkeypatch.setattr(module, "_touch", cut_then_touch)
    second = Engine(base_folder, backend="native", adapter_folder=tmp_path)
    try:
        second.ensure_adapter(name, folder)
        assert tokens_of(second, request("q", prompt, adapter=name)) == oracle(prompt, 24, folder)
        assert (tmp_path / "pack-000001").is_file()
    finally:
        second.close()


UNGUARDED = """
import mmap, sys
import numpy as np
from serving.engine.native.build import library

file = open(sys.argv[1], "w+b")
file.truncate(mmap.PAGESIZE)
mapped, other = mmap.mmap(file.fileno(), mmap.PAGESIZE), mmap.mmap(-1, mmap.PAGESIZE)
address = np.frombuffer(other, np.uint8).ctypes.data
assert library().openledger_guard(address, mmap.PAGESIZE) == 0
file.truncate(0)
mapped[0]
"""


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
def test_a_lost_page_that_nobody_guards_ends_a_process_as_ever(tmp_path):
    done = subprocess.run([sys.executable, "-c", UNGUARDED, tmp_path / "file"], check=False)
    assert done.returncode == -signal.SIGBUS


@pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
def test_a_packed_adapter_of_another_base_is_refused(base_folder, tmp_path):
    AdapterStore(tmp_path / "whole").add_all([("a" * 64, b"OLLORA01" + bytes(5_000))])
    made = Engine(base_folder, backend="native", adapter_folder=tmp_path / "whole")
    try:
        with pytest.raises(AdapterRejected, match="another base"):
            made.ensure_adapter("a" * 64, tmp_path)
    finally:
        made.close()


SHAPES = {(layer, kind): (64, 64) for layer in range(2) for kind in range(7)}


def table(*, size: int, rank: int = 4, down: int = 1024, up: int = 2048, place: int = 3) -> bytes:
    """A blob with one entry."""
    entries = [ENTRY.pack(0, 0.0, 0, 0, 0)] * 14
    entries[place] = ENTRY.pack(rank, 1.0, down, up, 0)
    return (HEADER.pack(MAGIC, 2, 7, size) + b"".join(entries)).ljust(size, b"\0")


def test_a_blob_whose_table_points_beyond_its_end_is_refused():
    check_blob(table(size=4096), SHAPES)
    for wrong in ({"down": 3800}, {"up": 4000}, {"up": -64}, {"rank": 300}, {"rank": -1}):
        with pytest.raises(AdapterRejected):
            check_blob(table(size=4096, **wrong), SHAPES)
    with pytest.raises(AdapterRejected):
        check_blob(table(size=4096), {place: (64, 32) for place in SHAPES if place != (0, 3)})
    with pytest.raises(AdapterRejected):
        check_blob(table(size=4096)[:-1], SHAPES)
