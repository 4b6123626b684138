"""A witness cosigns a head where the one that it cosigned last is a prefix of it, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attribution.translog.__main__ import main
from attribution.translog.checkpoint import NoteError, SigningKey, open_checkpoint
from attribution.translog.log import Log
from attribution.translog.tiles import FolderStore, MemoryStore
from attribution.translog.witness import (
    FileState,
    Witness,
    WitnessError,
    verify_cosignature,
)

LOG_KEY = SigningKey("log.test", Ed25519PrivateKey.from_private_bytes(bytes(32)))
KEY = SigningKey("witness.test", Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)))
AT = 1_764_000_000


class Story:
    """A log that grows; ``tell`` appends entries and returns the signed head."""

    def __init__(self, store: MemoryStore | FolderStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.log, self.size = Log(self.store, LOG_KEY.name), 0

    def tell(self, *entries: str) -> str:
        head = self.log.append(self.size, [entry.encode() for entry in entries])
        self.size = head.size
        note = self.log.sign(head, [LOG_KEY])
        self.log.publish(note)
        return note


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(KEY, LOG_KEY.verifier, FileState(tmp_path / "head"))


def test_a_growing_log_is_cosigned_and_its_own_signature_stays(witness: Witness) -> None:
    story = Story()
    for entries in (["a"], ["b", "c"], [str(n) for n in range(300)]):
        note = witness.cosign(story.tell(*entries), story.store, at=AT)
        assert verify_cosignature(note, KEY.verifier) == AT
        assert open_checkpoint(note, [LOG_KEY.verifier], LOG_KEY.name).size == story.size


def test_a_log_that_tells_another_past_is_not_cosigned(witness: Witness) -> None:
    one, other = Story(), Story()
    witness.cosign(one.tell("a", "b"), one.store, at=AT)
    with pytest.raises(WitnessError, match="is no prefix"):
        witness.cosign(other.tell("a", "x", "c"), other.store, at=AT)
    fork = Story()
    forked = fork.tell("a", "y")
    with pytest.raises(WitnessError, match="two roots of 2 leaves"):
        witness.cosign(forked, fork.store, at=AT)
    # It goes on with the history that it knows.
    assert witness.cosign(one.tell("c"), one.store, at=AT)


def test_a_log_that_shrank_is_not_cosigned(witness: Witness) -> None:
    story = Story()
    first = story.tell("a")
    witness.cosign(story.tell("b"), story.store, at=AT)
    with pytest.raises(WitnessError, match="shrank from 2 to 1"):
        witness.cosign(first, story.store, at=AT)


def test_the_same_head_is_cosigned_again(witness: Witness) -> None:
    story = Story()
    note = story.tell("a")
    witness.cosign(note, story.store, at=AT)
    assert verify_cosignature(witness.cosign(note, story.store, at=AT + 9), KEY.verifier) == AT + 9


def test_tiles_that_do_not_lead_to_the_head_are_not_cosigned(witness: Witness) -> None:
    story, other = Story(), Story()
    other.tell("x", "y")
    with pytest.raises(WitnessError, match="own tiles"):
        witness.cosign(story.tell("a", "b"), other.store, at=AT)
    assert witness.state.read() is None


def test_a_head_by_a_stranger_is_not_cosigned(witness: Witness) -> None:
    story = Story()
    story.tell("a")
    stranger = SigningKey(LOG_KEY.name, Ed25519PrivateKey.generate())
    with pytest.raises(NoteError):
        witness.cosign(story.log.sign(story.log.head(1), [stranger]), story.store, at=AT)


def test_a_changed_cosignature_does_not_hold(witness: Witness) -> None:
    story = Story()
    note = witness.cosign(story.tell("a"), story.store, at=AT)
    other = replace(KEY, private=Ed25519PrivateKey.generate())
    for wrong in (
        note.replace("log.test\n1\n", "log.test\n2\n"),
        story.log.sign(story.log.head(1), [LOG_KEY]),
    ):
        with pytest.raises(NoteError):
            verify_cosignature(wrong, KEY.verifier)
    with pytest.raises(NoteError, match="has not cosigned"):
        verify_cosignature(note, other.verifier)


def test_what_was_cosigned_is_kept_before_it_is_told(witness: Witness) -> None:
    """A witness whose disk is full signs nothing, since it would forget that it had."""

    class Full:
        def read(self) -> str | None:
            return None

        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

    story = Story()
    with pytest.raises(OSError, match="No space left"):
        replace(witness, state=Full()).cosign(story.tell("a"), story.store, at=AT)


def test_the_command_cosigns_once_and_refuses_a_fork(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = Story(FolderStore(tmp_path / "log"))
    story.tell("a", "b")
    command = ["witness", str(tmp_path / "log"), "--log-key", str(LOG_KEY.verifier)]
    command += ["--name", "me.test", "--folder", str(tmp_path / "me")]
    assert main(command) == 0
    assert "\u2014 me.test " in capsys.readouterr().out
    fork = Story(FolderStore(tmp_path / "log"))
    fork.tell("a", "z", "y")
    assert main(command) == 1
    assert "not cosigned" in capsys.readouterr().err
    assert main(["witness", str(tmp_path / "none"), *command[2:]]) == 2
