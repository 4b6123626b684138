"""An index's files, from the object store to a folder that can be memory-mapped. No torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.conf import settings

from accounts.blobs import local_path, put_file
from attribution.influence.index import MANIFEST, Index, IndexManifest
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


def open_index(row: IndexRow | PastIndex) -> Index:
    """The index from this machine's cache, fetched from the store where it is not there.

    Raises IndexFileError where a file is not what the manifest says.
    """
    folder = Path(settings.DATA_DIR) / "cache" / "indexes" / row.root
    if not (folder / MANIFEST).is_file():
        _fetch(row, folder)
    return Index.open(folder)


def build_folder(row: IndexRow) -> Path:
    """Where the index is built; a build that was stopped goes on here."""
    return Path(settings.DATA_DIR) / "builds" / str(row.model_id)


def _fetch(row: IndexRow | PastIndex, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = IndexManifest(
        row.manifest["header"], row.manifest["groups"], row.manifest["files"], row.manifest["root"]
    )
    for name, file in manifest.files.items():
        partial = folder / f"{name}.partial"
        with local_path(file["sha256"]) as stored:
            shutil.copyfile(stored, partial)
        partial.replace(folder / name)
    # Last, so that a folder with a manifest is whole.
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
