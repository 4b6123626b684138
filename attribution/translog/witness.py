"""A witness: it follows a log from outside and cosigns a head only where its last one is a prefix.

    witness = Witness(key, log_key, FolderState(folder))
    note = witness.cosign(checkpoint_text, HttpReader("https://…/log/"))

Whoever sees a head with this cosignature knows that the witness has seen no other history, so a
log that shows two people two histories is found out. The proof is made by the witness itself from
the log's tiles; the log is asked for files alone. What was cosigned is on the disk before the
cosignature leaves, so a witness that crashes never cosigns a fork afterwards.

Cosignatures are those of C2SP tlog-cosignature, type 0x04: Ed25519 over
`cosignature/v1`, the time in seconds, and the text of the checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import struct
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attribution.translog import merkle
from attribution.translog.checkpoint import (
    Checkpoint,
    NoteError,
    Signature,
    SigningKey,
    VerifierKey,
    open_checkpoint,
    split_note,
)
from attribution.translog.tiles import Reader, TileReader

COSIGNATURE = 0x04
TIMEOUT = 20
MAX_FILE = 20_000_000


class WitnessError(ValueError):
    """The head is not one that this witness cosigns; nothing was signed."""


class State(Protocol):
    """Where a witness keeps the last checkpoint that it cosigned, as text."""

    def read(self) -> str | None: ...
    def write(self, text: str) -> None:
        """Returns once it survives a crash."""


@dataclass(frozen=True)
class FileState:
    path: Path

    def read(self) -> str | None:
        return self.path.read_text("utf-8") if self.path.exists() else None

    def write(self, text: str) -> None:
        draft = self.path.with_name(f".{self.path.name}.draft")
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True)
class HttpReader:
    """A log's files by their address, which ends with a slash."""

    address: str

    def read(self, path: str) -> bytes:
        request = urllib.request.Request(self.address + path)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return bytes(answer.read(MAX_FILE))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise FileNotFoundError(path) from error
            raise


def cosigner_id(key: VerifierKey) -> bytes:
    """Another one than the key has as a log's: the type is hashed in."""
    text = key.name.encode() + b"\n" + bytes([COSIGNATURE]) + key.public
    return hashlib.sha256(text).digest()[:4]


def cosigner_key(key: VerifierKey) -> str:
    """The public key as verifiers of cosignatures take it."""
    encoded = b64encode(bytes([COSIGNATURE]) + key.public).decode()
    return f"{key.name}+{cosigner_id(key).hex()}+{encoded}"


def verify_cosignature(note: str, key: VerifierKey) -> int:
    """The time in seconds at which `key` cosigned the note. Raises NoteError where it has not."""
    text, signatures = split_note(note)
    wanted = (key.name, cosigner_id(key))
    for one in signatures:
        if (one.name, one.key_id) != wanted:
            continue
        if len(one.value) != 72:
            raise NoteError(f"the cosignature of {key.name} has another length")
        at: int = struct.unpack(">Q", one.value[:8])[0]
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(one.value[8:], _message(text, at))
        except InvalidSignature as error:
            raise NoteError(f"the cosignature of {key.name} does not fit the text") from error
        return at
    raise NoteError(f"{key.name} has not cosigned this checkpoint")


@dataclass(frozen=True)
class Witness:
    """``log_key`` is the log's, known from elsewhere; one witness follows one log."""

    key: SigningKey
    log_key: VerifierKey
    state: State

    def cosign(self, note: str, store: Reader, *, at: int) -> str:
        """The note with this witness's line added; ``at`` in seconds since 1970.

        Raises NoteError where the log did not sign it, WitnessError where the last cosigned head is
        no prefix of it, TileError or OSError where the log's files do not show that.
        """
        new = open_checkpoint(note, [self.log_key], self.log_key.name)
        kept = self.state.read()
        if kept is not None:
            self._check(Checkpoint.parse(kept), new, store)
        elif merkle.root_at(new.size, TileReader(store, new.size).node) != new.root:
            raise WitnessError("The log's own tiles do not lead to the head that it signed.")
        if kept != new.text():
            self.state.write(new.text())
        value = struct.pack(">Q", at) + self.key.private.sign(_message(new.text(), at))
        return note + Signature(self.key.name, cosigner_id(self.key.verifier), value).line()

    def _check(self, old: Checkpoint, new: Checkpoint, store: Reader) -> None:
        if new.origin != old.origin:
            raise WitnessError(f"This witness follows {old.origin}, not {new.origin}.")
        if new.size < old.size:
            raise WitnessError(f"The log shrank from {old.size} to {new.size} leaves.")
        if new.size == old.size:
            if new.root != old.root:
                raise WitnessError(f"The log shows two roots of {new.size} leaves: it forked.")
            return
        proof = merkle.consistency_proof(old.size, new.size, TileReader(store, new.size).node)
        try:
            merkle.verify_consistency(old.size, new.size, proof, old.root, new.root)
        except ValueError as error:
            raise WitnessError(
                f"The head of {old.size} leaves that was cosigned is no prefix of this one."
            ) from error


def _message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()
