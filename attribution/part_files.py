"""Files of a build in parts on their way between workers: in the object store, until it is done.

They are not content-addressed blobs: the plan holds records as token ids and shards hold sketches,
which both tell of the text. A part's records go when its shards are made, all that is left when the
index is ready or another plan takes over (`tidying`).
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import default_storage

from attribution.influence.errors import IndexFileError
from attribution.influence.files import whole
from attribution.influence.index import check_file, file_sha256

BUILDS = "builds"


class LostFileError(IndexFileError):
    """The store has lost files of a build, or had others in their place, which are deleted now:
    they are to be made and stored again. ``names`` are all, where they are several."""

    def __init__(self, path: str, reason: str, names: Sequence[str] = ()) -> None:
        super().__init__(path, reason)
        self.names = [*names] or [path]


def stated(path: Path) -> dict[str, Any]:
    """What the database says of a file in the store."""
    return {"size": path.stat().st_size, "sha256": file_sha256(path)}


def put(index_id: UUID, path: Path) -> dict[str, Any]:
    """Store the file; returns its size and SHA-256. Raises IndexFileError where it cannot be
    stored, as on a full disk."""
    try:
        file = stated(path)
        name = _name(index_id, file)
        if default_storage.exists(name):
            if default_storage.size(name) == file["size"]:
                return file
            default_storage.delete(name)  # one that a killed process has cut short
        with path.open("rb") as stream:
            default_storage.save(name, File(stream))
    except OSError as error:
        raise IndexFileError(path.name, f"it cannot be stored ({error}).") from error
    return file


def fetch(index_id: UUID, name: str, file: Mapping[str, Any], folder: Path) -> Path:
    """The file in ``folder``, copied there where it is not. Raises LostFileError, IndexFileError
    where it cannot be written."""
    path = folder / name
    is_whole = path.is_file() and path.stat().st_size == file["size"]
    if is_whole and file_sha256(path) == file["sha256"]:
        return path
    with whole(path) as partial:
        _copy(index_id, name, file, partial)
        try:
            check_file(partial, file, verify=True)
        except IndexFileError as error:
            drop(index_id, file)
            raise LostFileError(name, "the object store has it cut short or altered.") from error
    return path


def drop(index_id: UUID, file: Mapping[str, Any]) -> None:
    """Delete one file of the index's builds, if it is there."""
    default_storage.delete(_name(index_id, file))


def forget(index_id: UUID, but: Collection[str] = ()) -> None:
    """Delete the files of the index's builds, all ``but`` those with these hashes."""
    folder = _folder(index_id)
    try:
        _, names = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        if name not in but:
            default_storage.delete(f"{folder}/{name}")
    if not but:
        with suppress(OSError):  # somebody has put one there meanwhile
            default_storage.delete(folder)


def builds() -> list[UUID]:
    """The indexes of which the store has files."""
    try:
        names, _ = default_storage.listdir(BUILDS)
    except FileNotFoundError:
        return []
    return [UUID(name) for name in names]


def _copy(index_id: UUID, name: str, file: Mapping[str, Any], to: Path) -> None:
    try:
        stored = default_storage.open(_name(index_id, file), "rb")
    except FileNotFoundError as error:
        raise LostFileError(name, "the object store has lost it.") from error
    with stored, to.open("wb") as out:
        shutil.copyfileobj(stored, out, 1 << 20)


def _folder(index_id: UUID) -> str:
    return f"{BUILDS}/{index_id}"


def _name(index_id: UUID, file: Mapping[str, Any]) -> str:
    return f"{_folder(index_id)}/{file['sha256']}"
