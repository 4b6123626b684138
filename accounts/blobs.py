"""The content-addressed object store: a folder by default, an S3 bucket by setting."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.db import transaction

from accounts.models import Blob

CHUNK = 1 << 20
NEWEST = 8


def put_bytes(data: bytes, media_type: str) -> Blob:
    """Store `data`; storing the same bytes again returns the same blob."""
    return _store(hashlib.sha256(data).hexdigest(), len(data), media_type, ContentFile(data))


def put_many(datas: Sequence[bytes], media_type: str) -> list[Blob]:
    """Store each of `datas`; their blobs in that order. Two statements, whatever their number.

    The rows are committed with the caller's transaction, where there is one. They are written in
    the order of their hashes, so that two callers with the same bytes do not wait in a circle.
    """
    hashes = [hashlib.sha256(data).hexdigest() for data in datas]
    named = dict(zip(hashes, datas, strict=True))
    for sha256, data in named.items():
        _write(Blob(sha256=sha256).path, len(data), ContentFile(data))
    known = Blob.objects.in_bulk(named)
    missing = [
        Blob(sha256=sha256, size=len(named[sha256]), media_type=media_type)
        for sha256 in sorted(set(named) - set(known))
    ]
    Blob.objects.bulk_create(missing, ignore_conflicts=True)
    known |= {blob.sha256: blob for blob in missing}
    return [known[sha256] for sha256 in hashes]


def put_file(path: Path | str, media_type: str) -> Blob:
    """Store the file at `path` without reading it into memory."""
    with Path(path).open("rb") as stream:
        sha256 = _digest(stream)
        stream.seek(0)
        return _store(sha256, Path(path).stat().st_size, media_type, File(stream))


def delete(sha256: str) -> None:
    """Take a blob away, its file once the caller's transaction is committed.

    Raises ProtectedError where a row still names it.
    """
    blob = Blob.objects.get(sha256=sha256)
    path = blob.path
    blob.delete()
    transaction.on_commit(lambda: default_storage.delete(path))


def is_away() -> bool:
    """Whether the whole store is away rather than single files lost: of its newest blobs it has
    none. A store that cannot be asked raises its own error."""
    newest = Blob.objects.order_by("-created_at")[:NEWEST]
    return not any(default_storage.exists(blob.path) for blob in newest)


def forget_altered(sha256: str) -> None:
    """Delete a file that is not what its name says, so that the right one can be stored again. It
    is read from the store: a copy that came out damaged says nothing of it."""
    with open_blob(sha256) as stream:
        is_true = _digest(stream) == sha256
    if not is_true:
        default_storage.delete(Blob(sha256=sha256).path)


def open_blob(sha256: str) -> BinaryIO:
    """Open a blob for reading. Raises FileNotFoundError where the store has lost it."""
    return cast(BinaryIO, default_storage.open(Blob(sha256=sha256).path, "rb"))


def read_bytes(sha256: str) -> bytes:
    with open_blob(sha256) as stream:
        return stream.read()


@contextmanager
def local_path(sha256: str) -> Iterator[Path]:
    """Give a path on this machine: the stored file itself, or a copy for the time of the block."""
    try:
        yield Path(default_storage.path(Blob(sha256=sha256).path))
        return
    except NotImplementedError:
        pass
    with tempfile.NamedTemporaryFile() as copy, open_blob(sha256) as stream:
        while chunk := stream.read(CHUNK):
            copy.write(chunk)
        copy.flush()
        yield Path(copy.name)


def _digest(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _store(sha256: str, size: int, media_type: str, content: File) -> Blob:  # type: ignore[type-arg]
    blob, _ = Blob.objects.get_or_create(
        sha256=sha256, defaults={"size": size, "media_type": media_type}
    )
    _write(blob.path, size, content)
    return blob


def _write(path: str, size: int, content: File) -> None:  # type: ignore[type-arg]
    # The row may outlive a lost file, so the file is looked for each time; one that a killed
    # process has cut short does not count.
    if default_storage.exists(path):
        if default_storage.size(path) == size:
            return
        default_storage.delete(path)
    default_storage.save(path, content)
