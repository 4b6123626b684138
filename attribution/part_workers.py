"""Indexes that many attribute workers build: plan and merge in one of them, parts in all.

What travels between them goes through the object store, so they may be on different machines; on
one machine they share the build's folder, and nothing is copied twice. Imported by tasks alone:
this module brings torch.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from django.conf import settings
from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution import averaging, index_files, part_files
from attribution.building import Beat, LeaseLostError, adapter_of, turn
from attribution.influence.build import (
    FACTORS,
    SELECTION,
    Progress,
    fingerprint_of,
    in_order,
    work_folder,
)
from attribution.influence.errors import (
    AdapterMismatchError,
    BadShardError,
    IndexFileError,
    RecordError,
    UnsupportedAdapterError,
)
from attribution.influence.examples import IndexedExample
from attribution.influence.index import IndexManifest
from attribution.influence.model import AdaptedModel
from attribution.influence.parts import PLAN, Plan, make_part, plan
from attribution.influence.parts import merge as put_together
from attribution.models import Index, IndexPart
from attribution.part_files import LostFileError
from attribution.services import index_parts, indexes
from attribution.tidying import tidy_machine
from datanets.services.lifelines import lifeline
from modelfactory.training.devices import choose_device

logger = logging.getLogger(__name__)

THREADS = int(os.environ.get("ATTRIBUTE_THREADS", "1"))
# What comes out the same with every worker.
AT_FAULT = (RecordError, UnsupportedAdapterError, AdapterMismatchError)


class Kept:
    """The model of the part before, since the next part is most likely of the same index. Where no
    other part comes within a lease, it is let go of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[UUID, AdaptedModel] = {}
        self._timer: threading.Timer | None = None

    def get(self, row: Index, device: str) -> AdaptedModel:
        """Raises InfluenceError."""
        self._stop()
        with self._lock:
            found = self._models.get(row.model_id)
        if found is None:
            self.clear()
            with adapter_of(row.model) as adapter:
                found = averaging.loaded(row.model, adapter, device)
            with self._lock:
                self._models[row.model_id] = found
        return found

    def wait(self) -> None:
        """From now on the time runs."""
        self._stop()
        with self._lock:
            if self._models:
                self._timer = threading.Timer(settings.WORK_LEASE.total_seconds(), self.clear)
                self._timer.daemon = True
                self._timer.start()

    def clear(self) -> None:
        with self._lock:
            self._models.clear()

    def _stop(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()


_loaded = Kept()


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
    began = time.monotonic()
    config = averaging.config_of(row.model)
    fingerprint = fingerprint_of(model, config, in_order(examples), foreign)
    if row.plan.get("fingerprint") == fingerprint:
        _take_up_fit(row, work_folder(folder, fingerprint))
    parts = math.ceil(len(examples) / settings.INDEX_PART_RECORDS)
    planned = plan(model, config, examples, folder, parts, foreign, on_progress)
    stated = {
        "fingerprint": fingerprint,
        "files": {PLAN: part_files.stated(planned.folder / PLAN), **planned.files},
        "rows": [part.rows for part in planned.parts],
        "device": str(model.device),
    }
    made = _made(row, stated)
    spent = {part.records for part in planned.parts if part.number in made}
    for name in (PLAN, *planned.files):
        if name not in spent:
            part_files.put(row.pk, planned.folder / name)
    for part in planned.parts:
        (planned.folder / part.records).unlink(missing_ok=True)
    is_mine = index_parts.spread(
        index_id=row.pk,
        owner=owner,
        planned=stated,
        seconds=time.monotonic() - began,
        at=timezone.now(),
    )
    if not is_mine:
        raise LeaseLostError


def build_part(index_id: UUID) -> None:
    """Make the next part of the index that nobody has; only the claim's winner works. Waits its
    turn in the process."""
    with turn() as is_mine:
        if is_mine:
            _claim_and_build(index_id)
        else:
            indexes.wait_for_turn(index_id=index_id, at=timezone.now(), task=indexes.PART_TASK)


def merge(row: Index, model: AdaptedModel, folder: Path, made: Path) -> IndexManifest:
    """The index from its parts, in ``made``. Raises LostFileError, InfluenceError."""
    planned = _plan_of(row, ())
    lost = []
    for part in row.parts.all():
        lost += _fetch_shards(row, part, planned.folder)
    if lost:
        raise LostFileError(", ".join(lost), "the object store has lost or altered it.", lost)
    try:
        return put_together(model, planned, made)
    except BadShardError as error:
        # It fits its hash, since it was bad when it was hashed: another in its place in the shared
        # folder, say. It would fit it at every other try as well.
        _drop_shard(row, error.name, planned.folder)
        raise LostFileError(error.name, str(error), [error.name]) from error


def plan_again(index_id: UUID, owner: str, error: LostFileError) -> None:
    """Have what the store has lost of the index's build made again."""
    logger.warning("index %s: %s", index_id, error)
    index_parts.plan_again(
        index_id=index_id, owner=owner, lost=error.names, reason=str(error), at=timezone.now()
    )


def _claim_and_build(index_id: UUID) -> None:
    owner = f"{leases.worker_name()}:{uuid7()}"
    part = index_parts.claim_next(index_id=index_id, owner=owner, at=timezone.now())
    if part is None:
        return
    try:
        tidy_machine(at=timezone.now())
        with lifeline(IndexPart, part.pk, owner=owner):
            _build(part, owner)
    except LeaseLostError:
        logger.warning("%s: the lease was lost", part)
    except LostFileError as error:
        plan_again(index_id, owner, error)
    except AT_FAULT as error:
        logger.warning("%s failed: %s", part, error)
        index_parts.fail(part.pk, str(error), timezone.now(), owner)
    except Exception as error:
        # A full disk or a store that is away is this worker's own, and another may go on.
        logger.exception("%s failed", part)
        index_parts.try_again(part.pk, f"The worker failed: {error}", timezone.now(), owner)
    finally:
        if index_parts.is_any_left(index_id):
            _loaded.wait()
        else:
            _loaded.clear()


def _build(part: IndexPart, owner: str) -> None:
    torch.set_num_threads(THREADS)
    watch = Watch()
    row = part.index
    device, _ = choose_device()
    planned = _plan_of(row, [part.number])
    mine = planned.parts[part.number]
    lost = _fetch_shards(row, part, planned.folder)
    if lost and not index_parts.drop_shards(part_id=part.pk, owner=owner, names=lost):
        raise LeaseLostError
    size = planned.config.shard_records

    def keep(number: int, path: Path) -> None:
        is_kept = index_parts.keep_shard(
            part_id=part.pk,
            owner=owner,
            name=path.name,
            file=part_files.put(row.pk, path),
            rows=min(size, mine.rows - (number - mine.first) * size),
            at=timezone.now(),
            seconds=watch.lap(),
        )
        if not is_kept:
            raise LeaseLostError

    beat = Beat(
        lambda done, total: leases.heartbeat(IndexPart, part.pk, owner=owner, at=timezone.now())
    )
    made = make_part(_loaded.get(row, device), planned, part.number, keep, beat)
    is_done = index_parts.finish(
        part_id=part.pk,
        owner=owner,
        device=device,
        records=mine.records,
        seconds=watch.lap(),
        at=timezone.now(),
    )
    if not is_done:
        raise LeaseLostError
    # The store has them; here they would outlive their use, where another machine merges.
    for path in (*made, planned.folder / mine.records):
        path.unlink(missing_ok=True)


class Watch:
    """Seconds since it was looked at before."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def lap(self) -> float:
        now = time.monotonic()
        self.last, passed = now, now - self.last
        return round(passed, 3)


def _plan_of(row: Index, parts: Collection[int]) -> Plan:
    """The plan's folder on this machine, with the records of these parts. Raises LostFileError,
    IndexFileError."""
    work = work_folder(index_files.build_folder(row), row.plan["fingerprint"], alone=False)
    files = row.plan["files"]
    part_files.fetch(row.pk, PLAN, files[PLAN], work)
    try:
        planned = Plan.open(work)
    except IndexFileError as error:
        # Of an earlier method, say: planned again by this one.
        raise LostFileError(PLAN, str(error), [PLAN]) from error
    others = {part.records for part in planned.parts if part.number not in parts}
    for name in planned.files:
        if name not in others:
            part_files.fetch(row.pk, name, files[name], work)
    return planned


def _fetch_shards(row: Index, part: IndexPart, folder: Path) -> list[str]:
    """All shards of the part that are made; returns the names of those that are lost."""
    lost = []
    for name, stated in part.files.items():
        try:
            part_files.fetch(row.pk, name, stated, folder)
        except LostFileError as error:
            logger.warning("%s: %s", part, error)
            lost.append(name)
    return lost


def _drop_shard(row: Index, name: str, folder: Path) -> None:
    for part in row.parts.all():
        if file := part.files.get(name):
            part_files.drop(row.pk, file)
    (folder / name).unlink(missing_ok=True)


def _take_up_fit(row: Index, work: Path) -> None:
    """The fit that parts may be made with already, in place of whatever stands here."""
    for name in (FACTORS, SELECTION):
        with suppress(LostFileError):  # it is fitted again then
            part_files.fetch(row.pk, name, row.plan["files"][name], work)


def _made(row: Index, planned: Mapping[str, Any]) -> set[int]:
    """Numbers of the parts that are made of this very plan: nobody needs their records."""
    if not index_parts.is_planned(row, planned):
        return set()
    return set(row.parts.filter(state=IndexPart.State.READY).values_list("number", flat=True))
