"""Takes away what builds have left behind: those that were killed, given up or done elsewhere.

A build tidies up after itself. What stays is of processes that were killed and of machines that
made parts of an index which another put together; it may hold records that were withdrawn since.
"""

from __future__ import annotations

import logging
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings

from attribution import part_files
from attribution.influence.build import WORK
from attribution.influence.parts import PLAN
from attribution.models import Index

logger = logging.getLogger(__name__)

# Nobody has written there for so long that nobody is at work: a shard takes minutes.
QUIET = timedelta(hours=1)


def tidy_store() -> None:
    """Delete the files of builds that nobody goes on with. Those that go on are left alone: a
    file may be stored a moment before its row names it."""
    for index_id in part_files.builds():
        index = Index.objects.filter(pk=index_id).first()
        if index is None or not index.phase.is_moving:
            part_files.forget(index_id, _named(index) if index else ())


def tidy_machine(*, at: datetime) -> None:
    """The same for this machine's folders; and records of parts, which whoever makes the part has
    read at its beginning and the store still has where it is not made."""
    before = (at - QUIET).timestamp()
    builds = Path(settings.DATA_DIR) / part_files.BUILDS
    try:
        folders = list(builds.glob("*"))
    except OSError:
        logger.warning("%s could not be read", builds, exc_info=True)
        return
    for folder in folders:
        try:
            _tidy(folder, before)
        except Exception:
            # Others work there, too; whoever has work to do goes on, whatever it was.
            logger.warning("%s could not be tidied", folder, exc_info=True)


def _tidy(folder: Path, before: float) -> None:
    for records in folder.glob(f"{WORK}/*/records-*.npz"):
        if _written(records) < before:
            records.unlink(missing_ok=True)
    # Of merges that died half-way, each as large as the index.
    for made in [*folder.glob("whole-*"), *folder.glob("*/rows-*")]:
        if max(map(_written, [made, *made.rglob("*")])) < before:
            shutil.rmtree(made, ignore_errors=True)
    if _is_left(folder) and max(map(_written, folder.rglob("*")), default=0) < before:
        shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    try:
        model = UUID(folder.name)
    except ValueError:
        return False  # of another kind of index
    index = Index.objects.filter(model=model).first()
    if index is None or index.state == Index.State.READY:
        return True
    # One that one worker builds goes on here after a failure.
    return not index.phase.is_moving and not index.plan and any(folder.glob(f"{WORK}/*/{PLAN}"))


def _named(index: Index) -> set[str]:
    """Hashes of the files that another try of a failed index goes on from."""
    if not index.plan:
        return set()
    files = [*index.plan["files"].values()]
    for made in index.parts.values_list("files", flat=True):
        files += made.values()
    return {str(file["sha256"]) for file in files}


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
