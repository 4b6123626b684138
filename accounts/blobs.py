"""The content-addressed object store: a folder by default, an S3 bucket by setting."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

from accounts.models import Blob

CHUNK = 1 << 20


def put_bytes(data: bytes, media_type: str) -> Blob:
    """Store `data`; storing the same bytes again returns the same blob."""
    return _store(hashlib.sha256(data).hexdigest(), len(data), media_type, ContentFile(data))


def put_file(path: Path | str, media_type: str) -> Blob:
    """Store the file at `path` without reading it into memory."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
        stream.seek(0)
        return _store(digest.hexdigest(), Path(path).stat().st_size, media_type, File(stream))


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


def _store(sha256: str, size: int, media_type: str, content: File) -> Blob:  # type: ignore[type-arg]
    blob, _ = Blob.objects.get_or_create(
        sha256=sha256, defaults={"size": size, "media_type": media_type}
    )
    # The row may outlive a lost file, so the file is looked for each time; one that a killed
    # process has cut short does not count.
    if default_storage.exists(blob.path):
        if default_storage.size(blob.path) == size:
            return blob
        default_storage.delete(blob.path)
    default_storage.save(blob.path, content)
    return blob
