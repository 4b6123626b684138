"""A file is UTF-8 or it is refused with the byte and the line at fault."""

from pathlib import Path

import pytest

from datanets.ingest import encoding
from datanets.ingest.encoding import require_utf8
from datanets.ingest.faults import FileFault

from .helpers import run, write

ROW = '{"question": "Où est le café?", "answer": "Là."}\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_byte_order_mark_is_fine(tmp_path: Path, name: str) -> None:
    text = ROW if name == "a.jsonl" else "question,answer\nOù?,Là.\n"
    good, bad = run(write(tmp_path, name, "\ufeff" + text))
    assert len(good) == 1
    assert bad == []


def test_latin_1_is_refused_with_offset_and_line(tmp_path: Path) -> None:
    content = b'{"text": "ok"}\n' + '{"text": "café"}\n'.encode("latin-1")
    with pytest.raises(FileFault) as caught:
        require_utf8(write(tmp_path, "a.jsonl", content))
    assert caught.value.code == "ENCODING"
    assert caught.value.offset == content.index(b"\xe9")
    assert "line 2" in caught.value.message
    assert "0xE9" in caught.value.message


@pytest.mark.parametrize("name", ["utf-16", "utf-32"])
def test_other_unicode_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileFault) as caught:
        require_utf8(write(tmp_path, "a.csv", ROW.encode(name)))
    assert name.upper() in caught.value.message


def test_utf_16_without_a_mark_is_seen_by_its_zero_bytes(tmp_path: Path) -> None:
    with pytest.raises(FileFault) as caught:
        require_utf8(write(tmp_path, "a.csv", ROW.encode("utf-16-le")))
    assert (caught.value.code, caught.value.offset) == ("BINARY", 1)


def test_a_cut_within_a_character_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    with pytest.raises(FileFault) as caught:
        require_utf8(write(tmp_path, "a.txt", "abc€".encode()[:-1]))
    assert "cut short" in caught.value.message


@pytest.mark.parametrize("shift", range(5))
def test_the_offset_is_right_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    monkeypatch.setattr(encoding, "CHUNK", 7)
    content = b"a" * shift + "€\n€".encode() + b"\xe2\x28\xa1"
    with pytest.raises(FileFault) as caught:
        require_utf8(write(tmp_path, "a.txt", content))
    assert caught.value.offset == content.index(b"\xe2\x28")
    assert "line 2" in caught.value.message
