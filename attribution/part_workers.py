"""Indexes that many attribute workers build: plan and merge in one of them, parts in all.

What travels between them goes through the object store, so they may be on different machines; on
one machine they share the build's folder, and nothing is copied twice. Imported by tasks alone:
this module brings torch.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import torch
from django.conf import settings
from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution import index_files, part_files
from attribution.building import Beat, LeaseLostError, adapter_of, building
from attribution.influence.build import Progress, work_folder
from attribution.influence.config import InfluenceConfig
from attribution.influence.errors import InfluenceError
from attribution.influence.examples import IndexedExample
from attribution.influence.index import IndexManifest
from attribution.influence.model import AdaptedModel, load
from attribution.influence.parts import PLAN, Plan, make_part, plan
from attribution.influence.parts import merge as put_together
from attribution.models import Index, IndexPart
from attribution.services import index_parts, indexes
from datanets.services.lifelines import lifeline
from modelfactory.training.devices import choose_device

logger = logging.getLogger(__name__)

THREADS = int(os.environ.get("ATTRIBUTE_THREADS", "1"))

# The model of the part before, since the next part is most likely of the same index.
_loaded: dict[UUID, AdaptedModel] = {}


def spread(
    row: Index,
    owner: str,
    model: AdaptedModel,
    examples: Sequence[IndexedExample],
    folder: Path,
    on_progress: Progress,
    foreign: Sequence[IndexedExample],
) -> None:
    """Plan the index in parts, and have them made. Raises InfluenceError, LeaseLostError."""
    parts = math.ceil(len(examples) / settings.INDEX_PART_RECORDS)
    planned = plan(model, InfluenceConfig(), examples, folder, parts, foreign, on_progress)
    if row.plan and row.plan["fingerprint"] != planned.fingerprint:
        part_files.forget(row.pk)
    stored = {
        name: part_files.put(row.pk, planned.folder / name) for name in (PLAN, *planned.files)
    }
    is_mine = index_parts.spread(
        index_id=row.pk,
        owner=owner,
        fingerprint=planned.fingerprint,
        files=stored,
        rows=[part.rows for part in planned.parts],
        at=timezone.now(),
    )
    if not is_mine:
        raise LeaseLostError


def build_part(index_id: UUID) -> None:
    """Make the next part of the index that nobody has; only the claim's winner works. Waits its
    turn in the process."""
    if not building.acquire(blocking=False):
        indexes.wait_for_turn(index_id=index_id, at=timezone.now(), task=indexes.PART_TASK)
        return
    try:
        _claim_and_build(index_id)
    finally:
        building.release()


def merge(row: Index, model: AdaptedModel, folder: Path) -> IndexManifest:
    """The index from its parts. Raises InfluenceError."""
    planned = _plan_of(row, range(len(row.plan["rows"])))
    for part in row.parts.all():
        for name, stated in part.files.items():
            part_files.fetch(row.pk, name, stated, planned.folder)
    return put_together(model, planned, folder)


def _claim_and_build(index_id: UUID) -> None:
    owner = f"{leases.worker_name()}:{uuid7()}"
    part = index_parts.claim_next(index_id=index_id, owner=owner, at=timezone.now())
    if part is None:
        return
    try:
        with lifeline(IndexPart, part.pk, owner=owner):
            _build(part, owner)
    except LeaseLostError:
        logger.warning("%s: the lease was lost", part)
    except (InfluenceError, OSError, ValueError) as error:
        logger.warning("%s failed: %s", part, error)
        index_parts.fail(part.pk, str(error), timezone.now(), owner)
    except Exception as error:
        logger.exception("%s failed", part)
        reason = f"The worker failed ({type(error).__name__}). Look at its log, then try again."
        index_parts.fail(part.pk, reason, timezone.now(), owner)
    finally:
        if not index_parts.is_any_left(index_id):
            _loaded.clear()


def _build(part: IndexPart, owner: str) -> None:
    torch.set_num_threads(THREADS)
    row = part.index
    device, _ = choose_device()
    planned = _plan_of(row, [part.number])
    for name, stated in part.files.items():
        part_files.fetch(row.pk, name, stated, planned.folder)
    size = planned.config.shard_records

    def keep(number: int, path: Path) -> None:
        mine = planned.parts[part.number]
        rows = min(size, mine.rows - (number - mine.first) * size)
        is_kept = index_parts.keep_shard(
            part_id=part.pk,
            owner=owner,
            name=path.name,
            file=part_files.put(row.pk, path),
            rows=rows,
            at=timezone.now(),
        )
        if not is_kept:
            raise LeaseLostError

    beat = Beat(
        lambda done, total: leases.heartbeat(IndexPart, part.pk, owner=owner, at=timezone.now())
    )
    make_part(_model_of(row, device), planned, part.number, keep, beat)
    at = timezone.now()
    if not index_parts.finish(part_id=part.pk, owner=owner, device=device, at=at):
        raise LeaseLostError


def _plan_of(row: Index, parts: Sequence[int]) -> Plan:
    """The plan's folder on this machine, with the records of these parts. Raises IndexFileError."""
    work = work_folder(index_files.build_folder(row), row.plan["fingerprint"])
    files = row.plan["files"]
    part_files.fetch(row.pk, PLAN, files[PLAN], work)
    planned = Plan.open(work)
    others = {part.records for part in planned.parts if part.number not in parts}
    for name in planned.files:
        if name not in others:
            part_files.fetch(row.pk, name, files[name], work)
    return planned


def _model_of(row: Index, device: str) -> AdaptedModel:
    if row.model_id not in _loaded:
        _loaded.clear()
        with adapter_of(row.model) as adapter:
            _loaded[row.model_id] = load(row.model.base_model.path, adapter, device)
    return _loaded[row.model_id]
