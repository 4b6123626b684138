"""Files that stand there whole or not at all, whoever else writes the same at that moment."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from attribution.influence.errors import IndexFileError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Turns what the system says about a full or read-only disk into an error with the file."""
    try:
        yield path
    except OSError as error:
        raise IndexFileError(path, f"it cannot be written ({error}).") from error


@contextmanager
def own_folder(within: Path, prefix: str) -> Iterator[Path]:
    """A folder of the caller's alone, gone when the block ends, also by an error. Raises
    IndexFileError where it cannot be made."""
    with writing(within):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the block ends and is gone when it fails.

    Nobody else has it: two workers may make the same file, one of them without knowing that its
    lease is lost, and in containers that share a folder they may even have the same process id.
    Raises IndexFileError where it cannot be written.
    """
    # What it ends in stays as it is: numpy would add its own.
    partial = path.with_name(f".partial-{uuid4().hex}-{path.name}")
    with writing(path):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
