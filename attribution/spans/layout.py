"""What a span index is on disk: a folder of flat files and a manifest that names them by hash.

    manifest.json           header, files with size and SHA-256, and the root over both
    tokens.bin              all records' tokens, big-endian, 2 bytes each (3 where the vocabulary
                            needs them), a separator of 0xFF bytes after each record
    suffixes-00000.bin ...  one a segment: the segment's positions in the order of the suffixes
                            that begin there, little-endian, as few bytes each as the segment needs
    starts.bin              the first token of each record, 8 bytes little-endian
    records.jsonl           the records' ids as JSON strings, in the order of their tokens
    unigrams.bin            how often each token of the vocabulary occurs, 8 bytes little-endian

A segment of the default size needs 3 bytes a position: with 2 bytes a token that is 5 bytes a
token, and the separators. Big-endian, so that comparing tokens is comparing bytes. The separator
is greater than every token, so that no match of an answer runs from one record into the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution.spans.errors import SpansFileError
from attribution.translog import canonical

FORMAT = "openledger-spans/1"
MANIFEST = "manifest.json"
TOKENS, STARTS, RECORDS, UNIGRAMS = "tokens.bin", "starts.bin", "records.jsonl", "unigrams.bin"
# A token id of 3 bytes, less the separator.
LARGEST_VOCABULARY = 2**24 - 1


@dataclass(frozen=True, slots=True)
class SegmentShape:
    """A run of records whose suffixes are sorted together. ``tokens`` counts separators."""

    records: int
    tokens: int

    @property
    def pointer_bytes(self) -> int:
        return max(1, (max(self.tokens - 1, 0).bit_length() + 7) // 8)


@dataclass(frozen=True, slots=True)
class Manifest:
    """``header`` says what is indexed and how; ``files`` maps names to size and SHA-256."""

    header: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def root(self) -> str:
        """Names the index by everything that is in it."""
        return canonical.sha256(self._committed())

    @property
    def segments(self) -> list[SegmentShape]:
        return [SegmentShape(one["records"], one["tokens"]) for one in self.header["segments"]]

    @property
    def token_bytes(self) -> int:
        return int(self.header["token_bytes"])

    def to_json(self) -> dict[str, Any]:
        return {**self._committed(), "root": self.root}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], path: Path) -> Manifest:
        """Raises SpansFileError where it is no manifest or its root does not fit it."""
        try:
            manifest = cls(value["header"], value["files"])
            stated, root = manifest.header["format"], value["root"]
            if stated == FORMAT:
                manifest._check_shape()
        except (KeyError, TypeError, ValueError) as error:
            raise SpansFileError(path, f"it is no manifest ({error}).") from error
        if stated != FORMAT:
            raise SpansFileError(path, f"its format is {stated!r}, not {FORMAT!r}.")
        if manifest.root != root:
            raise SpansFileError(path, "its root is not the root of what it lists.")
        return manifest

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises SpansFileError where it is missing or damaged."""
        try:
            value = canonical.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise SpansFileError(path, "it is missing.") from error
        except (OSError, ValueError) as error:
            raise SpansFileError(path, f"it cannot be read ({error}).") from error
        return cls.from_json(value, path)

    def _committed(self) -> dict[str, Any]:
        return {
            "header": dict(self.header),
            "files": {name: dict(file) for name, file in self.files.items()},
        }

    def _check_shape(self) -> None:
        """That the files that the header speaks of are listed. Raises KeyError, ValueError."""
        wanted = {TOKENS, STARTS, RECORDS, UNIGRAMS}
        wanted |= {suffixes_name(number) for number in range(len(self.segments))}
        if set(self.files) != wanted:
            raise ValueError("the files are not those of the header")
        if sum(one.records for one in self.segments) != self.header["record_count"]:
            raise ValueError("the segments do not add up to the records")


def suffixes_name(segment: int) -> str:
    return f"suffixes-{segment:05d}.bin"


def token_bytes_for(vocabulary: int) -> int:
    """Bytes a token; one value of them is the separator's. Raises ValueError."""
    if not 0 < vocabulary <= LARGEST_VOCABULARY:
        raise ValueError(f"A vocabulary has 1 to {LARGEST_VOCABULARY} tokens, not {vocabulary}.")
    return 2 if vocabulary < 2**16 else 3


def describe_file(path: Path) -> dict[str, Any]:
    """Size and hex SHA-256, as the manifest has them."""
    with path.open("rb") as file:
        return {
            "size": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def check_file(path: Path, stated: Mapping[str, Any], *, verify: bool) -> None:
    """Compare size and, with ``verify``, hash. Raises SpansFileError that names the file."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SpansFileError(path, "it is missing.") from error
    if size != stated["size"]:
        raise SpansFileError(path, f"it has {size} bytes, not {stated['size']}; it was cut off.")
    if verify and describe_file(path)["sha256"] != stated["sha256"]:
        raise SpansFileError(path, "it is not the file that the manifest names; it was altered.")
