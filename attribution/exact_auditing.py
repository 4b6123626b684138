"""The exact audit of a receipt, as the attribute worker does it: the run once more, in a process
of its own (`attribution.influence.exact_job`). Records are in a folder that goes when it ends."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution import selectors
from attribution.exact_bodies import Found
from attribution.influence.errors import InfluenceError, ReplayError
from attribution.influence.exact import as_integers
from attribution.models import ExactAudit
from attribution.rescoring import texts_to_score
from attribution.services import exact_audits
from attribution.services.rescorings import CannotRescoreError
from datanets.services.lifelines import lifeline
from modelfactory.errors import RunError
from modelfactory.jobs import child_environment
from modelfactory.models import Model
from modelfactory.replays import write_replay
from modelfactory.training.job import Exit, Kind, read_events, write_json

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# One at a time in a process: the other threads go on scoring.
_replaying = threading.Lock()


class LeaseLostError(Exception):
    """Somebody else has the work now."""


def audit_exactly(audit_id: UUID) -> None:
    """Claim, replay, publish. Waits its turn in the process."""
    if not _replaying.acquire(blocking=False):
        exact_audits.wait_for_turn(audit_id=audit_id, at=timezone.now())
        return
    try:
        _claim_and_audit(audit_id)
    finally:
        _replaying.release()


def _claim_and_audit(audit_id: UUID) -> None:
    owner = f"{leases.worker_name()}:{uuid7()}"
    row = exact_audits.claim(audit_id=audit_id, owner=owner, at=timezone.now())
    if row is None:
        return
    try:
        with lifeline(ExactAudit, row.pk, owner=owner):
            found = _replay(row, owner)
            exact_audits.publish(audit_id=row.pk, owner=owner, found=found, at=timezone.now())
    except LeaseLostError:
        logger.warning("exact audit %s: the lease was lost", row.pk)
    except (CannotRescoreError, InfluenceError, RunError, OSError) as error:
        logger.warning("exact audit %s failed: %s", row.pk, error)
        exact_audits.fail(row.pk, str(error), timezone.now(), owner)
    except Exception as error:
        logger.exception("exact audit %s failed", row.pk)
        reason = f"The worker failed ({type(error).__name__}). Look at its log, then try again."
        exact_audits.fail(row.pk, reason, timezone.now(), owner)


def _replay(row: ExactAudit, owner: str) -> Found:
    texts = texts_to_score(row.receipt)
    model = row.receipt.model
    assert model is not None
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        folder = Path(name)
        write_replay(model.run, folder)
        answer = {
            "input_ids": [*texts.prompt_ids, *texts.answer_ids],
            "loss_mask": [0] * len(texts.prompt_ids) + [1] * len(texts.answer_ids),
            "adapter_sha256": model.adapter_sha256,
        }
        write_json(folder / "answer.json", answer)
        _supervise(row, owner, folder)
        told = json.loads((folder / "exact.json").read_text("utf-8"))
    return by_group(model, told["influences"], told["steps"])


def by_group(model: Model, influences: Mapping[str, float], steps: int) -> Found:
    """Sums over those who are paid for the records, in whole numbers."""
    sums: dict[str, float] = defaultdict(float)
    counted = 0
    for record, group in selectors.grouped_training_records(model):
        value = influences.get(str(record.record_id))
        if value is not None:
            sums[str(group)] += value
            counted += 1
    return Found(as_integers(sums), counted, len(influences) - counted, steps)


def _supervise(row: ExactAudit, owner: str, folder: Path) -> None:
    """Run the child to its end, passing on how far it is. Raises ReplayError with its reason."""
    child = start_child(folder)
    offset, told = 0, time.monotonic()
    every = min(2.0, settings.WORK_LEASE.total_seconds() / 4)
    try:
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            if time.monotonic() - told > every:
                told, offset = time.monotonic(), _pass_on(row, owner, folder, offset)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    _pass_on(row, owner, folder, offset)
    if child.returncode != Exit.FINISHED:
        failed = [e for e in read_events(folder / "events.jsonl", 0)[0] if e.kind == Kind.FAILED]
        raise ReplayError(
            str(failed[-1].data["reason"])
            if failed
            else f"The process that replays the run died (exit status {child.returncode})."
        )


def start_child(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "output.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "attribution.influence.exact_job", str(folder)],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(),
        )


def _pass_on(row: ExactAudit, owner: str, folder: Path, offset: int) -> int:
    events, offset = read_events(folder / "events.jsonl", offset)
    steps = [event.data for event in events if event.kind == Kind.PROGRESS]
    if steps:
        row.done, row.total = steps[-1]["done"], steps[-1]["total"]
    kept = exact_audits.note_progress(
        audit_id=row.pk, owner=owner, done=row.done, total=row.total, at=timezone.now()
    )
    if not kept:
        raise LeaseLostError
    if not connection.in_atomic_block:
        connection.close()
    return offset
