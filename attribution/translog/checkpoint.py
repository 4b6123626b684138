"""Signed notes and checkpoints as C2SP signed-note and tlog-checkpoint write them.

A checkpoint is three lines (origin, size, root in base64), signed with Ed25519 as a note. Only
signature type 0x01 is made or accepted; signatures by keys that are not handed in are ignored, as
the specification asks, so that others may add theirs.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from attribution.translog.merkle import HASH_SIZE

ED25519 = 0x01
MAX_NOTE = 1_000_000
MAX_SIGNATURES = 100

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteError(ValueError):
    """A note, key or checkpoint is malformed or not signed by whom it should be."""


@dataclass(frozen=True)
class Signature:
    """One signature line; ``value`` is the signature without its four bytes of key ID."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        return f"\u2014 {self.name} {b64encode(self.key_id + self.value).decode()}\n"


@dataclass(frozen=True)
class VerifierKey:
    """The public half of a note key, spelt ``name+key ID+base64(type || key)``."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Raises NoteError for another algorithm, a wrong key ID or a wrong length."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        data = _base64(encoded)
        _check_name(name)
        if len(data) != 33 or data[0] != ED25519:
            raise NoteError("only Ed25519 keys (type 1, 32 bytes) are known here")
        key = cls(name, data[1:])
        if key.key_id.hex() != key_id:
            raise NoteError(f"the key ID of {name} is {key.key_id.hex()}, not {key_id}")
        return key

    @property
    def key_id(self) -> bytes:
        text = self.name.encode() + b"\n" + bytes([ED25519]) + self.public
        return hashlib.sha256(text).digest()[:4]

    def __str__(self) -> str:
        encoded = b64encode(bytes([ED25519]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def verify(self, text: str, signature: Signature) -> None:
        """Raises NoteError unless the signature is this key's over ``text``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature.value, text.encode())
        except (InvalidSignature, ValueError) as error:
            raise NoteError(f"the signature of {self.name} does not fit the text") from error


@dataclass(frozen=True)
class SigningKey:
    """A named Ed25519 key that signs notes."""

    name: str
    private: Ed25519PrivateKey

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.name, self.private.public_key().public_bytes_raw())

    def sign(self, text: str) -> Signature:
        return Signature(self.name, self.verifier.key_id, self.private.sign(text.encode()))


def load_or_create_key(path: Path, name: str) -> SigningKey:
    """The key in a PEM file that only its owner reads; made where there is none.

    Raises NoteError where the file holds no Ed25519 key.
    """
    _check_name(name)
    if not path.exists():
        _create_key(path)
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise NoteError(f"{path} holds no readable private key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise NoteError(f"{path} holds no Ed25519 key")
    return SigningKey(name, private)


def _create_key(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link never replaces: of two processes that start together, the first one's key stays.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def sign_note(text: str, keys: Sequence[SigningKey]) -> str:
    """The note: text, blank line, one signature line for each key."""
    _check_text(text)
    return text + "\n" + "".join(key.sign(text).line() for key in keys)


def split_note(note: str) -> tuple[str, list[Signature]]:
    """Take a note apart, without believing any of it: (text, signatures).

    Raises NoteError where it is no note.
    """
    if len(note) > MAX_NOTE:
        raise NoteError("the note is too long")
    text, blank, tail = note.rpartition("\n\n")
    text += "\n"
    _check_text(text)
    if not blank or not tail.endswith("\n"):
        raise NoteError("a note ends with signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"more than {MAX_SIGNATURES} signatures")
    return text, [_parse_signature(line) for line in lines]


def open_note(note: str, keys: Sequence[VerifierKey]) -> tuple[str, list[VerifierKey]]:
    """The text of a note and the known keys that signed it.

    Raises NoteError where a known key's signature is wrong or none of them signed.
    """
    text, signatures = split_note(note)
    known = {(key.name, key.key_id): key for key in keys}
    signers: list[VerifierKey] = []
    for signature in signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None and key not in signers:
            key.verify(text, signature)
            signers.append(key)
    if not signers:
        raise NoteError("no known key signed this note")
    return text, signers


@dataclass(frozen=True)
class Checkpoint:
    """A log's head: ``root`` (32 bytes) over its first ``size`` leaves."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions]
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Raises NoteError where the text is no checkpoint."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "" or not all(lines):
            raise NoteError("a checkpoint has three or more lines, none of them empty")
        origin, size, root, *extensions = lines
        if not _DECIMAL.fullmatch(size):
            raise NoteError(f"not a tree size: {size[:40]}")
        digest = _base64(root)
        if len(digest) != HASH_SIZE:
            raise NoteError(f"a root has {HASH_SIZE} bytes, this one {len(digest)}")
        return cls(origin, int(size), digest, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, keys: Sequence[SigningKey]) -> str:
    return sign_note(checkpoint.text(), keys)


def open_checkpoint(note: str, keys: Sequence[VerifierKey], origin: str) -> Checkpoint:
    """The checkpoint in a note, signed by one of ``keys`` and of the log ``origin``.

    Raises NoteError.
    """
    text, _ = open_note(note, keys)
    checkpoint = Checkpoint.parse(text)
    if checkpoint.origin != origin:
        raise NoteError(f"this is a checkpoint of {checkpoint.origin}, not of {origin}")
    return checkpoint


def _parse_signature(line: str) -> Signature:
    mark, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    data = _base64(encoded)
    _check_name(name)
    if mark != "\u2014" or len(data) < 5:
        raise NoteError("malformed signature line")
    return Signature(name, data[:4], data[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() for character in name):
        raise NoteError("a key name is not empty and has neither spaces nor a plus")


def _check_text(text: str) -> None:
    if not text.endswith("\n") or text == "\n":
        raise NoteError("the text of a note ends with a newline")
    if any(character < " " and character != "\n" for character in text):
        raise NoteError("control characters do not belong in a note")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NoteError("a note is valid UTF-8") from error


def _base64(text: str) -> bytes:
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("malformed base64") from error
    # Only one spelling is accepted: stray bits at the end would make two of one note.
    if b64encode(data).decode() != text:
        raise NoteError("base64 with stray bits")
    return data
