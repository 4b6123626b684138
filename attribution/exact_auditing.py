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
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution import learnt
from attribution.exact_bodies import Found, NotReplayed
from attribution.influence.errors import InfluenceError, ReplayError
from attribution.influence.exact import as_integers
from attribution.models import ExactAudit
from attribution.rescoring import texts_to_score
from attribution.services import exact_audits
from attribution.services.rescorings import CannotRescoreError, models_of
from attribution.texts import Texts
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


def _replay(row: ExactAudit, owner: str) -> list[Found | NotReplayed]:
    """Of the model, or of each of several that answered as one, as if it had answered alone.

    Raises ReplayError, RunError where none of them can be replayed.
    """
    texts = texts_to_score(row.receipt)
    models = models_of(row.receipt)
    found: list[Found | NotReplayed] = []
    for place, model in enumerate(models):
        child = _Child(row, owner, before=row.done if place else 0, left=len(models) - place)
        try:
            found.append(_replay_one(model, texts, child))
        except (ReplayError, RunError) as error:
            if not any(isinstance(one, Found) for one in found) and child.left == 1:
                raise
            logger.warning("exact audit %s, model %s: %s", row.pk, model.pk, error)
            found.append(NotReplayed(str(error)))
    return found


def _replay_one(model: Model, texts: Texts, child: _Child) -> Found:
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        folder = Path(name)
        write_replay(model.run, folder)
        answer = {
            "input_ids": [*texts.prompt_ids, *texts.answer_ids],
            "loss_mask": [0] * len(texts.prompt_ids) + [1] * len(texts.answer_ids),
            "adapter_sha256": model.adapter_sha256,
        }
        write_json(folder / "answer.json", answer)
        child.supervise(folder)
        told = json.loads((folder / "exact.json").read_text("utf-8"))
    return by_group(model, told["influences"], told["steps"])


def by_group(model: Model, influences: Mapping[str, float], steps: int) -> Found:
    """Sums over those who are paid for the records, in whole numbers."""
    sums: dict[str, float] = defaultdict(float)
    counted = 0
    for record, group in learnt.grouped_training_records(model):
        value = influences.get(str(record.record_id))
        if value is not None:
            sums[str(group)] += value
            counted += 1
    return Found(as_integers(sums), counted, len(influences) - counted, steps)


@dataclass
class _Child:
    """The process that replays a model's runs: `left` of them from this one on, when `before` steps
    were done. How long the others are is taken to be as this one."""

    row: ExactAudit
    owner: str
    before: int
    left: int
    offset: int = 0

    def supervise(self, folder: Path) -> None:
        """Run the child to its end, passing on how far it is. Raises ReplayError with its
        reason."""
        child = start_child(folder)
        told = time.monotonic()
        every = min(2.0, settings.WORK_LEASE.total_seconds() / 4)
        try:
            while child.poll() is None:
                time.sleep(POLL_SECONDS)
                if time.monotonic() - told > every:
                    told = time.monotonic()
                    self._pass_on(folder)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        self._pass_on(folder)
        if child.returncode != Exit.FINISHED:
            raise ReplayError(_reason(folder, child.returncode))

    def _pass_on(self, folder: Path) -> None:
        events, self.offset = read_events(folder / "events.jsonl", self.offset)
        steps = [event.data for event in events if event.kind == Kind.PROGRESS]
        if steps:
            self.row.done = self.before + steps[-1]["done"]
            self.row.total = self.before + steps[-1]["total"] * self.left
        kept = exact_audits.note_progress(
            audit_id=self.row.pk,
            owner=self.owner,
            done=self.row.done,
            total=self.row.total,
            at=timezone.now(),
        )
        if not kept:
            raise LeaseLostError
        if not connection.in_atomic_block:
            connection.close()


def _reason(folder: Path, status: int) -> str:
    failed = [e for e in read_events(folder / "events.jsonl", 0)[0] if e.kind == Kind.FAILED]
    if failed:
        return str(failed[-1].data["reason"])
    return f"The process that replays the run died (exit status {status})."


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
