"""A span index's files, from the object store to a folder that can be memory-mapped."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.conf import settings

from accounts.blobs import local_path, put_file
from attribution.models import SpanIndex as SpanIndexRow
from attribution.spans import layout
from attribution.spans.errors import SpansFileError
from attribution.spans.index import SpanIndex
from attribution.spans.layout import Manifest
from attribution.translog import canonical


def store(folder: Path) -> dict[str, Any]:
    """Put the files of a finished index into the object store; returns the manifest as JSON."""
    manifest = Manifest.read(folder / layout.MANIFEST)
    for name in manifest.files:
        put_file(folder / name, "application/octet-stream")
    return manifest.to_json()


def open_index(row: SpanIndexRow, removed: Iterable[str]) -> SpanIndex:
    """The index from this machine's cache, less the records `removed`.

    Fetched from the store where it is not there; the subtracting index is made where this set of
    records was not subtracted before. Raises SpansFileError for a file that is not what the
    manifest says.
    """
    folder = _cache() / row.root
    if not (folder / layout.MANIFEST).is_file():
        _fetch(row, folder)
    index = SpanIndex.open(folder)
    gone = sorted(set(removed) & index.rows.keys())
    if not gone:
        return index
    named = hashlib.sha256("\n".join(gone).encode()).hexdigest()[:32]
    less = folder / f"less-{named}"
    if not (less / layout.MANIFEST).is_file():
        # Another process may do the same now; the folder gets its name when it is whole.
        partial = folder / f"less-{named}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        index.subtract(gone, partial)
        try:
            partial.replace(less)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
        _drop_older(folder, less)
    return index.without(SpanIndex.open(less))


def build_folder(row: SpanIndexRow) -> Path:
    """Where the index is built; a build that was stopped goes on here."""
    return Path(settings.DATA_DIR) / "builds" / f"spans-{row.pk}"


def _cache() -> Path:
    return Path(settings.DATA_DIR) / "cache" / "spans"


def _drop_older(folder: Path, kept: Path) -> None:
    """Sets of removed records only grow, so what was subtracted before is of no use."""
    for other in folder.glob("less-*"):
        if other != kept and "." not in other.name:
            shutil.rmtree(other, ignore_errors=True)


def _fetch(row: SpanIndexRow, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest.from_json(row.manifest, folder / layout.MANIFEST)
    if manifest.root != row.root:
        raise SpansFileError(folder / layout.MANIFEST, f"it is not the manifest of {row.root}.")
    for name, file in manifest.files.items():
        partial = folder / f"{name}.{os.getpid()}.partial"
        with local_path(file["sha256"]) as stored:
            shutil.copyfile(stored, partial)
        partial.replace(folder / name)
    # Last, so that a folder with a manifest is whole.
    partial = folder / f"{layout.MANIFEST}.{os.getpid()}.partial"
    partial.write_bytes(canonical.dumps(manifest.to_json()))
    partial.replace(folder / layout.MANIFEST)
