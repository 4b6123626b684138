"""A blob is named by its content and is read back whole."""

import hashlib
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from accounts import blobs
from accounts.models import Blob

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_store(settings: object, tmp_path: Path) -> None:
    settings.STORAGES = settings.STORAGES | {  # type: ignore[attr-defined]
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "blobs")},
        }
    }


def test_the_name_is_the_hash() -> None:
    blob = blobs.put_bytes(b"one record", "text/plain")
    assert blob.sha256 == hashlib.sha256(b"one record").hexdigest()
    assert blobs.read_bytes(blob.sha256) == b"one record"


def test_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    first = blobs.put_file(path, "application/octet-stream")
    assert blobs.put_bytes(b"x" * 3_000_000, "application/octet-stream") == first
    assert Blob.objects.count() == 1
    with blobs.local_path(first.sha256) as stored:
        assert stored.stat().st_size == first.size == 3_000_000


def test_a_lost_file_comes_back_when_it_is_stored_again() -> None:
    blob = blobs.put_bytes(b"lost", "text/plain")
    default_storage.delete(blob.path)
    with pytest.raises(FileNotFoundError):
        blobs.read_bytes(blob.sha256)
    blobs.put_bytes(b"lost", "text/plain")
    assert blobs.read_bytes(blob.sha256) == b"lost"


def test_a_file_that_a_killed_process_cut_short_is_written_anew(tmp_path: Path) -> None:
    blob = blobs.put_bytes(b"all of it", "text/plain")
    default_storage.delete(blob.path)
    default_storage.save(blob.path, ContentFile(b"all"))
    again = blobs.put_bytes(b"all of it", "text/plain")
    assert again.path == blob.path
    assert blobs.read_bytes(again.sha256) == b"all of it"
