"""An index's files, from the object store to a folder that can be memory-mapped. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings

from accounts import blobs
from accounts.blobs import local_path, put_file
from attribution.influence.errors import IndexFileError, InfluenceError
from attribution.influence.index import MANIFEST, Index, IndexManifest, check_file
from attribution.models import Index as IndexRow
from attribution.models import PastIndex


def store(folder: Path) -> dict[str, Any]:
    """Put the files of a finished index into the object store; returns the manifest as JSON."""
    manifest = IndexManifest.read(folder / MANIFEST)
    for name in manifest.file_names:
        put_file(folder / name, "application/octet-stream")
    return {
        "header": dict(manifest.header),
        "groups": [dict(group) for group in manifest.groups],
        "files": {name: dict(file) for name, file in manifest.files.items()},
        "root": manifest.root,
    }


class StoreAwayError(InfluenceError, OSError):
    """The object store is not there, so nothing can be said of what it has."""


class LostIndexError(IndexFileError):
    """The object store has lost a file of the index, or had another in its place, which is deleted
    now: the index is to be built again."""


def open_index(row: IndexRow | PastIndex, *, mends: bool = True) -> Index:
    """The index from this machine's cache, fetched from the store where it is not there, or is not
    what the manifest says. Raises LostIndexError and StoreAwayError.

    Who verifies does not want a damaged copy mended but told: without ``mends`` it raises
    IndexFileError.
    """
    folder = Path(settings.DATA_DIR) / "cache" / "indexes" / row.root
    if (folder / MANIFEST).is_file():
        with suppress(*([IndexFileError] if mends else [])):
            return Index.open(folder)
    manifest = _fetch(row, folder)
    try:
        return Index.open(folder)
    except IndexFileError as error:
        _forget_altered(manifest.files, folder)
        raise LostIndexError(f"of the root {row.root[:16]}", f"it is damaged ({error}).") from error


def build_folder(row: IndexRow) -> Path:
    """Where the index is built; a build that was stopped goes on here."""
    return Path(settings.DATA_DIR) / "builds" / str(row.model_id)


def _fetch(row: IndexRow | PastIndex, folder: Path) -> IndexManifest:
    """Raises LostIndexError and StoreAwayError. Who has mapped the files keeps what it has."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = IndexManifest(
        row.manifest["header"], row.manifest["groups"], row.manifest["files"], row.manifest["root"]
    )
    for name, file in manifest.files.items():
        partial = folder / f"{name}.partial"
        _copy(name, file["sha256"], partial)
        partial.replace(folder / name)
    # Last, so that a folder with a manifest is whole.
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


def _copy(name: str, sha256: str, to: Path) -> None:
    try:
        with local_path(sha256) as stored:
            shutil.copyfile(stored, to)
    except FileNotFoundError as error:
        if blobs.is_away():
            raise StoreAwayError(
                "The object store has nothing of what it had: it is away, or is another one. Try "
                "again when it is back."
            ) from error
        raise LostIndexError(name, "the object store has lost it.") from error


def _forget_altered(files: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """What was fetched and does not fit its hash, the store has no use for either."""
    for name, file in files.items():
        try:
            check_file(folder / name, file, verify=True)
        except IndexFileError:
            blobs.forget_altered(file["sha256"])
