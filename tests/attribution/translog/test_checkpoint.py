"""Signed notes and checkpoints: public vectors, and everything that must be refused."""

from __future__ import annotations

import json
import stat
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attribution.translog.checkpoint import (
    Checkpoint,
    NoteError,
    SigningKey,
    VerifierKey,
    load_or_create_key,
    open_checkpoint,
    open_note,
    sign_checkpoint,
    sign_note,
)

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "signed-note" / "notes.json"
NOTES: dict[str, Any] = json.loads(VECTORS.read_text()) if VECTORS.is_file() else {}

needs_vectors = pytest.mark.skipif(not NOTES, reason=f"no public test vectors in {VECTORS}")

KEY = SigningKey("example.test/log", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = SigningKey("example.test/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))
HEAD = Checkpoint("example.test/log", 7, bytes(range(32)))


@needs_vectors
@pytest.mark.parametrize("case", NOTES.get("cases", []), ids=lambda case: case["vkey"][-1][:12])
def test_a_published_note_opens_with_its_keys(case: dict[str, Any]) -> None:
    keys = [VerifierKey.parse(text) for text in case["vkey"]]
    text, signers = open_note(case["note"], keys)
    assert case["note"].startswith(text + "\n")
    assert signers == keys
    assert [str(key) for key in keys] == case["vkey"]


@needs_vectors
@pytest.mark.parametrize("text", NOTES.get("bad_vkeys", []))
def test_a_malformed_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


@needs_vectors
def test_a_published_tree_note_is_read_and_its_mutations_are_not() -> None:
    tree = NOTES["tree_note"]
    assert Checkpoint.parse(tree["text"]).size == tree["n"]
    assert Checkpoint.parse(tree["text"]).text() == tree["text"]
    _, number, digest = tree["bad"]
    for text in [number, digest]:
        with pytest.raises(NoteError):
            Checkpoint.parse(text)
    other_origin = sign_note(tree["bad"][0], [KEY])
    with pytest.raises(NoteError, match=r"not of go\.sum"):
        open_checkpoint(other_origin, [KEY.verifier], "go.sum database tree")


def test_a_checkpoint_goes_round() -> None:
    note = sign_checkpoint(HEAD, [KEY])
    assert open_checkpoint(note, [KEY.verifier], "example.test/log") == HEAD
    assert note.count("\u2014") == 1


def test_signatures_of_strangers_are_ignored_but_ours_must_be_there() -> None:
    note = sign_checkpoint(HEAD, [OTHER, KEY])
    assert open_checkpoint(note, [KEY.verifier], HEAD.origin) == HEAD
    with pytest.raises(NoteError, match="no known key"):
        open_checkpoint(sign_checkpoint(HEAD, [OTHER]), [KEY.verifier], HEAD.origin)


@given(st.integers(0, 10_000))
def test_no_single_flipped_bit_leaves_a_valid_checkpoint(position: int) -> None:
    note = sign_checkpoint(HEAD, [KEY]).encode()
    bit = position % (len(note) * 8)
    flipped = bytearray(note)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises((NoteError, UnicodeDecodeError)):
        open_checkpoint(bytes(flipped).decode(), [KEY.verifier], HEAD.origin)


SIGNATURE = KEY.sign(HEAD.text()).line()


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "\n\n" + SIGNATURE,
        HEAD.text(),
        HEAD.text() + SIGNATURE,
        HEAD.text() + "\n" + SIGNATURE[:-1],
        HEAD.text() + "\n" + SIGNATURE + "\n",
        HEAD.text() + "\n" + SIGNATURE.replace("\u2014", "-"),
        HEAD.text() + "\n\u2014 name\n",
        HEAD.text() + "\n\u2014 name AAAA\n",
        HEAD.text().replace("7", "\t7") + "\n" + SIGNATURE,
        HEAD.text() + "\n" + SIGNATURE * 101,
        "x" * 1_000_001,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(NoteError):
        open_note(note, [KEY.verifier])


ROOT = b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"o\n1\n{ROOT}",
        f"o\n01\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n\uff11\n{ROOT}\n",
        f"o\n1\n{ROOT[:-4]}\n",
        f"\n1\n{ROOT}\n",
        f"o\n1\n{ROOT}\n\n",
        "o\n1\n",
        f"o\n{'9' * 20}\n{ROOT}\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


def test_extension_lines_are_kept() -> None:
    text = f"o\n1\n{ROOT}\nmore\n"
    assert Checkpoint.parse(text).extensions == ("more",)
    assert Checkpoint.parse(text).text() == text


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "log.pem"
    key = load_or_create_key(path, "example.test/log")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path, "example.test/log").verifier == key.verifier
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"not a key"])
def test_a_spoilt_key_file_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.pem"
    path.write_bytes(content)
    with pytest.raises(NoteError, match="no readable"):
        load_or_create_key(path, "example.test/log")
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b"])
def test_a_key_name_has_neither_spaces_nor_plus(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoteError):
        load_or_create_key(tmp_path / "log.pem", name)
