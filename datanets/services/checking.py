"""The worker's part before submission: the first rows, then every row.

Results are written in one transaction at the end, and only while the lease is still held; a
worker that dies half-way leaves nothing behind.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit, leases
from accounts.blobs import local_path, put_file
from accounts.models import Blob
from datanets.ingest import check as ingest
from datanets.ingest import rejects
from datanets.ingest.faults import Fault, FileFault
from datanets.ingest.files import detect
from datanets.ingest.folding import fold
from datanets.ingest.formats import Format
from datanets.ingest.limits import Limits
from datanets.ingest.mapping import Mapping as ColumnMapping
from datanets.models import Contribution, ContributionState, Datanet, Record, RowError
from datanets.models.prints import WHOLE
from datanets.models.records import HELD, RecordState
from datanets.services import near_duplicates
from datanets.services.lifelines import lifeline
from datanets.services.notices import notify_once
from datanets.services.parts import forget_parts, join_parts

MEDIA_TYPE = "application/octet-stream"
KEPT_ROW_ERRORS = 1_000
KEPT_NEAR = 100
# Objects of these formats may differ in their columns, so the first rows do not name them all.
OPEN_FORMATS = (Format.JSON, Format.JSONL)

Clock = Callable[[], datetime]


class LeaseLost(Exception):
    """Another worker has the contribution now; what this one did is thrown away."""


def limits() -> Limits:
    """The limits of this installation."""
    return Limits(file_bytes=settings.UPLOAD_FILE_BYTES)


def preview_contribution(*, contribution_id: UUID, clock: Clock = timezone.now) -> bool:
    """UPLOADED → MAPPING with the first rows, or FAILED. False where nothing was to do."""
    contribution = _claim(
        contribution_id, ContributionState.UPLOADED, ContributionState.PREVIEWING, clock()
    )
    if contribution is None:
        return False
    with lifeline(Contribution, contribution_id, owner=contribution.lease_owner):
        _preview(contribution, clock)
    return True


def _preview(contribution: Contribution, clock: Clock) -> None:
    file = contribution.file or _joined(contribution)
    try:
        with local_path(file.sha256) as path:
            found = ingest.preview(path, contribution.name, limits())
            is_open = detect(path, contribution.name, limits()) in OPEN_FORMATS
    except FileFault as fault:
        _fail(contribution, fault.code, fault.message, clock())
        return
    preview = {
        "columns": found.columns,
        "is_open": is_open,
        "rows": [
            {"number": row.number, "cells": row.cells, "values": row.values} for row in found.rows
        ],
        "faults": [fault.as_dict() for fault in found.faults],
        "mapping": found.mapping.as_dict() if found.mapping else {},
    }
    if found.rows:
        _settle(contribution, ContributionState.MAPPING, preview=preview)
    else:
        _fail(contribution, "NO_ROWS", _no_rows(found.faults), clock(), preview=preview)


def check_contribution(*, contribution_id: UUID, clock: Clock = timezone.now) -> bool:
    """QUEUED → NEEDS_DECISION, READY or FAILED. False where nothing was to do."""
    contribution = _claim(
        contribution_id, ContributionState.QUEUED, ContributionState.CHECKING, clock()
    )
    if contribution is None or contribution.file is None:
        return False
    with (
        lifeline(Contribution, contribution_id, owner=contribution.lease_owner),
        tempfile.NamedTemporaryFile() as clean,
        tempfile.NamedTemporaryFile() as refused,
    ):
        outcome = _check(contribution, clean, refused)
        clean.flush()
        refused.flush()
        _store(contribution, outcome, Path(clean.name), Path(refused.name), clock())
    return True


@dataclass
class _Outcome:
    good: int = 0
    refused: int = 0
    duplicate: int = 0
    kept: list[Fault] = field(default_factory=list)
    stop: FileFault | None = None
    near: int = 0
    near_rows: list[dict[str, Any]] = field(default_factory=list)


def _check(contribution: Contribution, clean: "IO[bytes]", refused: "IO[bytes]") -> _Outcome:
    outcome = _Outcome()
    batch: list[ingest.Candidate] = []
    mapping = ColumnMapping.from_dict(contribution.mapping)
    assert contribution.file is not None
    with local_path(contribution.file.sha256) as path:
        items = ingest.check(
            path,
            contribution.name,
            mapping,
            limits=limits(),
            known=known_hashes(contribution.datanet),
        )
        for item in _until_broken(items, outcome):
            if isinstance(item, Fault):
                _count_fault(outcome, item)
                refused.writelines(rejects.as_jsonl([item]))
            else:
                outcome.good += 1
                clean.write(_clean_line(item))
                batch.append(item)
                if len(batch) == near_duplicates.BATCH:
                    _note_near(contribution.datanet, batch, outcome)
                    batch = []
    _note_near(contribution.datanet, batch, outcome)
    return outcome


def _note_near(datanet: Datanet, batch: Sequence[ingest.Candidate], outcome: _Outcome) -> None:
    """Count the rows that say nearly what a record says. They stay good: a reviewer decides."""
    found = near_duplicates.near_in(datanet, [fold(item.payload) for item in batch])
    outcome.near += len(found)
    for place, one in sorted(found.items()):
        if len(outcome.near_rows) < KEPT_NEAR:
            outcome.near_rows.append(
                {
                    "row": batch[place].row,
                    "record": str(one.record_id),
                    "percent": one.parts * 100 // WHOLE,
                }
            )


def _until_broken(
    items: Iterator[ingest.Candidate | Fault], outcome: _Outcome
) -> Iterator[ingest.Candidate | Fault]:
    """Items until the file itself fails; that fault becomes the last row's."""
    last = 0
    try:
        for item in items:
            last = item.row
            yield item
    except FileFault as fault:
        outcome.stop = fault
        if last:
            yield fault.as_fault(last + 1)


def _count_fault(outcome: _Outcome, fault: Fault) -> None:
    outcome.refused += 1
    outcome.duplicate += fault.code == "DUPLICATE"
    if len(outcome.kept) < KEPT_ROW_ERRORS:
        outcome.kept.append(fault)


def _clean_line(item: ingest.Candidate) -> bytes:
    values = {
        "row": item.row,
        "contributor": item.contributor,
        "content_hash": item.content_hash,
        "payload": item.payload,
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _store(
    contribution: Contribution, outcome: _Outcome, clean: Path, refused: Path, at: datetime
) -> None:
    if outcome.stop and not outcome.good and not outcome.refused:
        _fail(contribution, outcome.stop.code, outcome.stop.message, at)
        return
    counts = {
        "rows_read": outcome.good + outcome.refused,
        "rows_good": outcome.good,
        "rows_refused": outcome.refused,
        "rows_duplicate": outcome.duplicate,
        "rows_near": outcome.near,
    }
    rejects_blob = put_file(refused, "application/jsonl") if outcome.refused else None
    with transaction.atomic():
        RowError.objects.filter(contribution=contribution).delete()
        RowError.objects.bulk_create(
            [RowError.of(contribution, fault.as_dict()) for fault in outcome.kept],
            batch_size=500,
        )
        if not outcome.good:
            reason = _no_rows(outcome.kept)
            _fail(
                contribution, "NO_ROWS", reason, at, rejects=rejects_blob, good_file=None, **counts
            )
            return
        good_file = put_file(clean, "application/jsonl")
        state = ContributionState.NEEDS_DECISION if outcome.refused else ContributionState.READY
        _settle(
            contribution,
            state,
            rejects=rejects_blob,
            good_file=good_file,
            near_rows=outcome.near_rows,
            **counts,
        )
        audit.record(
            actor=contribution.submitter,
            verb="contribution.checked",
            target=contribution,
            data=counts,
            at=at,
        )
        notify_once(
            user=contribution.submitter,
            kind="datanets.contribution_checked",
            title=f"{contribution.name}: {outcome.good:,} good rows, {outcome.refused:,} refused",
            body="Look at the result and submit the good rows.",
            url=contribution.get_absolute_url(),
            at=at,
        )


def known_hashes(datanet: Datanet) -> ingest.KnownHashes:
    """A lookup of which hashes the Datanet holds, with the sentence for a copy's row."""

    def lookup(hashes: Sequence[str]) -> Mapping[str, str]:
        same = Record.objects.filter(content_hash__in=hashes, state__in=HELD)
        mine = Q(datanet=datanet)
        if datanet.derived_from_id is not None:
            mine |= Q(version_entries__version=datanet.derived_from_id)
        held = same.filter(mine).values_list("content_hash", "state", "pk")
        return {digest: _copy_sentence(state, pk) for digest, state, pk in held}

    return lookup


def _copy_sentence(state: str, pk: UUID) -> str:
    if state == RecordState.TAKEN_DOWN:
        return "This text was taken down from this Datanet and cannot be contributed again."
    return f"The row is an exact copy of record {pk}. Nothing is to do: it is left out."


def _no_rows(faults: list[Fault]) -> str:
    if not faults:
        return "The file has no rows. Choose a file with rows."
    first = faults[0]
    return f"No row can become a record. Row {first.row}: {first.message}"


def _joined(contribution: Contribution) -> Blob:
    assert contribution.upload is not None
    blob = join_parts(contribution.upload, MEDIA_TYPE)
    with transaction.atomic():
        Contribution.objects.filter(pk=contribution.pk).update(file=blob)
        forget_parts(contribution.upload)
    return blob


def _claim(pk: UUID, before: str, during: str, at: datetime) -> Contribution | None:
    claimed = leases.claim(
        Contribution,
        pk,
        from_states=[before],
        to_state=during,
        owner=leases.worker_name(),
        at=at,
    )
    if not claimed:
        return None
    return Contribution.objects.select_related("datanet", "submitter", "upload", "file").get(pk=pk)


def _settle(contribution: Contribution, state: ContributionState, **fields: object) -> None:
    """Move on while the lease is held, else raise LeaseLost and with it roll back."""
    settled = Contribution.objects.filter(
        pk=contribution.pk, lease_owner=contribution.lease_owner, state=contribution.state
    ).update(state=state, attempts=0, lease_owner="", lease_expires_at=None, **fields)
    if not settled:
        raise LeaseLost(str(contribution.pk))


def _fail(
    contribution: Contribution, code: str, reason: str, at: datetime, **fields: object
) -> None:
    with transaction.atomic():
        _settle(
            contribution,
            ContributionState.FAILED,
            failure_code=code,
            failure_reason=reason,
            **fields,
        )
        audit.record(
            actor=contribution.submitter,
            verb="contribution.failed",
            target=contribution,
            data={"code": code, "reason": reason},
            at=at,
        )
        notify_once(
            user=contribution.submitter,
            kind="datanets.contribution_failed",
            title=f"{contribution.name} could not be read",
            body=reason,
            url=contribution.get_absolute_url(),
            at=at,
        )
