"""Files of a build in parts on their way between workers: in the object store, until it is done.

They are not content-addressed blobs: the plan holds records as token ids and shards hold sketches,
which both tell of the text, so all of them go when the index is ready or another plan takes over.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import default_storage

from attribution.influence.errors import IndexFileError
from attribution.influence.index import check_file, file_sha256


def put(index_id: UUID, path: Path) -> dict[str, Any]:
    """Store the file; returns its size and SHA-256. Raises IndexFileError where it cannot be
    stored, as on a full disk."""
    stated = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    name = _name(index_id, stated)
    try:
        if default_storage.exists(name):
            if default_storage.size(name) == stated["size"]:
                return stated
            default_storage.delete(name)  # one that a killed process has cut short
        with path.open("rb") as stream:
            default_storage.save(name, File(stream))
    except OSError as error:
        raise IndexFileError(path.name, f"it cannot be stored ({error}).") from error
    return stated


def fetch(index_id: UUID, name: str, stated: Mapping[str, Any], folder: Path) -> Path:
    """The file in ``folder``, copied there where it is not. Raises IndexFileError where the store
    has lost it, or has another in its place."""
    path = folder / name
    is_whole = path.is_file() and path.stat().st_size == stated["size"]
    if is_whole and file_sha256(path) == stated["sha256"]:
        return path
    partial = folder / f"{name}.fetched"
    try:
        with (
            default_storage.open(_name(index_id, stated), "rb") as stored,
            partial.open("wb") as out,
        ):
            shutil.copyfileobj(stored, out, 1 << 20)
    except FileNotFoundError as error:
        raise IndexFileError(name, "the object store has lost it.") from error
    except OSError as error:
        raise IndexFileError(path, f"it cannot be fetched ({error}).") from error
    check_file(partial, stated, verify=True)
    partial.replace(path)
    return path


def forget(index_id: UUID) -> None:
    """Delete all files of the index's builds."""
    folder = _folder(index_id)
    try:
        _, names = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        default_storage.delete(f"{folder}/{name}")


def _folder(index_id: UUID) -> str:
    return f"builds/{index_id}"


def _name(index_id: UUID, stated: Mapping[str, Any]) -> str:
    return f"{_folder(index_id)}/{stated['sha256']}"
