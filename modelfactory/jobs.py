"""A claimed run on a worker: its folder, its child process, and what becomes of both.

Only tasks import this module. The training itself is `python -m modelfactory.training FOLDER` in
a process of its own: cancelling is a signal, and its memory comes back when it ends.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Set
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection

from accounts import leases
from accounts.blobs import open_blob
from accounts.models import WorkerHeartbeat
from datanets.models import Record
from datanets.services import near_duplicates
from modelfactory.errors import RunError
from modelfactory.lineage import lineage_runs
from modelfactory.models import Run, RunEvent, RunVersion
from modelfactory.selectors import REPEATED, repeated_records, training_records
from modelfactory.services import publishing, runs
from modelfactory.training.job import Exit, Job, JobError, Kind, alone_in, read_events
from modelfactory.workers import materialise_adapter

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 5.0
STOP_SECONDS = 60.0  # for the child to write its checkpoint
MEASURED = 500  # held-out records that measure a merge

# Set when this worker is told to stop, so that runs go back to the queue with a checkpoint.
stopping = threading.Event()


def now() -> datetime:
    return datetime.now(UTC)


def execute(run_id: UUID, *, device: str, dtype: str) -> bool:
    """Claim the run and bring it to an end; False where somebody else has it."""
    owner = f"{leases.worker_name()}:{threading.get_ident()}"
    claimed = leases.claim(
        Run,
        run_id,
        from_states=[Run.State.QUEUED],
        to_state=Run.State.RUNNING,
        owner=owner,
        at=now(),
    )
    if not claimed:
        return False
    run = Run.objects.select_related("base_model", "builder").get(pk=run_id)
    runs.begin(run=run, device=device, dtype=dtype, at=now())
    try:
        folder = prepare(run, device=device, dtype=dtype)
        status, reason = supervise(run, folder, owner)
        conclude(run, folder, owner, status, reason)
    except OperationalError:
        # The database went away: the lease runs out, and the sweeper has the run go on.
        logger.warning("run %s: left to the sweeper", run_id, exc_info=True)
        connection.close()
    except (RunError, JobError) as error:
        runs.fail(run_id, str(error), now(), owner=owner)
    except Exception as error:
        logger.exception("run %s", run_id)
        runs.fail(run_id, f"{type(error).__name__}: {error}", now(), owner=owner)
    return True


def device_of_this_worker() -> tuple[str, str]:
    """Device and dtype as this worker announced them; it does so within its first seconds."""
    for _ in range(20):
        mine = WorkerHeartbeat.objects.filter(name=leases.worker_name(), queue="train").first()
        if mine is not None:
            # Half precision without bfloat16 overflows in training.
            return mine.device, "float32" if mine.dtype == "float16" else mine.dtype
        time.sleep(POLL_SECONDS)
    return "cpu", "float32"


def folder_of(run_id: UUID) -> Path:
    return Path(settings.DATA_DIR) / "runs" / str(run_id)


def prepare(run: Run, *, device: str, dtype: str) -> Path:
    """Write job.json and records.jsonl; keep the checkpoint of an attempt on the same records.

    Raises RunError (VERSION, PARENT) where the builder may not train on one of the versions, or
    start from one of the models, any more.
    """
    assert run.base_model is not None
    # Before the records are chosen, since of each cluster the first alone is trained on.
    near_duplicates.compare_all(waits=True)
    runs.require_versions(run)
    runs.require_parents(run)
    folder = folder_of(run.pk)
    folder.mkdir(parents=True, exist_ok=True)
    is_merge = run.kind == Run.Kind.MERGE
    if is_merge:
        write_held_out(run, folder)
    elif not (folder / "records.jsonl").exists():
        write_records(run, folder)
    elif left_out(run) != {f["record"] for f in run.findings if f["problem"] == "WITHDRAWN"}:
        # Under the lock: a child that was given up may still write its checkpoint.
        with alone_in(folder):
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
            write_records(run, folder)
    Job(
        base_folder=run.base_model.folder,
        base_name=f"openledger/{run.base_model.slug}",
        recipe=run.recipe,
        device=device,
        dtype=dtype,
        threads=int(os.environ.get("OMP_NUM_THREADS") or 1),
        checkpoint_seconds=settings.RUN_CHECKPOINT_SECONDS,
        first_sequence=first_sequence(run, folder),
        parents=tuple(write_parents(run, folder)),
        is_merge=is_merge,
    ).write(folder)
    return folder


def write_parents(run: Run, folder: Path) -> list[int]:
    """The adapters that it starts from, into parents/0, parents/1, …; returns their weights."""
    weights = []
    for number, parent in enumerate(run.parents.all()):
        materialise_adapter(parent.model_id, folder / "parents" / str(number))
        weights.append(parent.weight)
    return weights


def write_held_out(run: Run, folder: Path) -> None:
    """What measures a merge: records that none of its ancestors was trained on, as far as they
    may still be read."""
    above = lineage_runs(run)
    trained = {str(record.record_id) for one in run.parents.all()
               for record in training_records(one.model_id)}  # fmt: skip
    held_out = {record for one in above for record in one.held_out} - trained
    rows = Record.objects.filter(pk__in=held_out).exclude(
        pk__in=Record.objects.withheld().values("pk")
    )
    with (folder / "records.new").open("w", encoding="utf-8") as out:
        for pk, payload in rows.order_by("pk").values_list("pk", "payload")[:MEASURED]:
            line = {"record": str(pk), "payload": payload}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    (folder / "records.new").replace(folder / "records.jsonl")


def first_sequence(run: Run, folder: Path) -> int:
    """Where a new events.jsonl counts from; an old one keeps what its job was told."""
    if (folder / "events.jsonl").exists():
        return Job.read(folder).first_sequence
    newest = RunEvent.objects.filter(run=run).order_by("-sequence").first()
    return newest.sequence + 1 if newest else 1


def write_records(run: Run, folder: Path) -> None:
    """The versions' records from their blobs, without what was withdrawn since; one for each
    cluster of near-duplicates, once, as often as its version's weight says."""
    withdrawn: list[str] = []
    repeated = {str(pk): str(first) for pk, first in repeated_records(run).items()}
    taken: set[str] = set()
    with (folder / "records.new").open("w", encoding="utf-8") as out:
        for run_version in run.run_versions.select_related("version__datanet"):
            gone = withheld(run_version.version_id)
            withdrawn += sorted(gone)
            out.writelines(lines_of(run_version, taken, gone | repeated.keys()))
    (folder / "records.new").replace(folder / "records.jsonl")
    run.findings = [
        {"number": 0, "record": record, "problem": "WITHDRAWN", "message": "Withdrawn since."}
        for record in withdrawn
    ] + [
        {
            "number": 0,
            "record": record,
            "problem": REPEATED,
            "message": "Says nearly what another record of the run says, which came first.",
            "first": first,
        }
        for record, first in sorted(repeated.items())
    ]
    run.save(update_fields=["findings"])


def lines_of(run_version: RunVersion, taken: set[str], left_out: Set[str]) -> Iterator[str]:
    """A version's lines of records.jsonl, without those that are `taken` already, which grow."""
    with open_blob(run_version.version.records_file_id) as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["record"] not in taken and entry["record"] not in left_out:
                taken.add(entry["record"])
                kept = {"record": entry["record"], "payload": entry["payload"]}
                yield (json.dumps(kept, ensure_ascii=False) + "\n") * run_version.weight


def withheld(version_id: UUID) -> set[str]:
    rows = Record.objects.withheld().filter(version_entries__version=version_id)
    return {str(pk) for pk in rows.values_list("pk", flat=True)}


def left_out(run: Run) -> set[str]:
    """Ids of all records that `write_records` would leave out now."""
    return {record for rv in run.run_versions.all() for record in withheld(rv.version_id)}


def supervise(run: Run, folder: Path, owner: str) -> tuple[int, str]:
    """Run the child to its end, passing on its events; (exit status, why it was told to stop)."""
    child = start_child(folder)
    # Events of an earlier attempt are read again: what is known already is not written twice.
    offset, beaten, told, told_at = 0, 0.0, "", 0.0
    lease = settings.WORK_LEASE.total_seconds()
    try:
        while (status := child.poll()) is None:
            time.sleep(POLL_SECONDS)
            offset = pass_on(run, folder, offset)
            if time.monotonic() - beaten > min(HEARTBEAT_SECONDS, lease / 4):
                beaten = time.monotonic()
                if not leases.heartbeat(Run, run.pk, owner=owner, at=now()):
                    told = told or "LOST"
            if not told:
                told = reason_to_stop(run.pk)
            if told and not told_at:
                child.send_signal(signal.SIGTERM)
                told_at = time.monotonic()
            if told_at and time.monotonic() - told_at > STOP_SECONDS:
                child.kill()
    except BaseException:
        child.kill()
        child.wait()
        raise
    pass_on(run, folder, offset)
    return status, told


def start_child(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "output.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "modelfactory.training", str(folder)],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(),
        )


def child_environment() -> dict[str, str]:
    """No keys, no database: the core needs none, and its weights come from strangers."""
    kept = (
        "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
        "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    )  # fmt: skip
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return {
        "OMP_NUM_THREADS": "1",
        **environment,
        "PYTHONPATH": str(settings.BASE_DIR),
        "HF_HUB_OFFLINE": "1",
    }


def reason_to_stop(run_id: UUID) -> str:
    if stopping.is_set():
        return "WORKER"
    cancelled = Run.objects.filter(pk=run_id, cancel_requested=True).exists()
    return "CANCEL" if cancelled else ""


def pass_on(run: Run, folder: Path, offset: int) -> int:
    events, offset = read_events(folder / "events.jsonl", offset)
    runs.record_events(run_id=run.pk, events=events)
    return offset


def conclude(run: Run, folder: Path, owner: str, status: int, told: str) -> None:
    """What the child's end means for the run."""
    if told == "LOST":
        return  # somebody else has the run, and its end
    if status == Exit.FINISHED:
        if publishing.complete(run=run, folder=folder, owner=owner, at=now()) is not None:
            # The model is kept whole elsewhere; copies of records need not stay.
            shutil.rmtree(folder, ignore_errors=True)
    elif status == Exit.STOPPED and told == "CANCEL":
        runs.cancelled(run_id=run.pk, at=now(), owner=owner)
    elif status == Exit.STOPPED:
        runs.give_back(run_id=run.pk, owner=owner, at=now())
    elif status == Exit.FAILED:
        runs.fail(run.pk, last_reason(folder), now(), owner=owner)
    else:
        runs.crash(
            run_id=run.pk,
            owner=owner,
            reason=f"The training process died ({ending(status)}). Lower the batch size or the "
            "cutoff length if memory is short, then start the run again.",
            at=now(),
        )


def last_reason(folder: Path) -> str:
    events, _ = read_events(folder / "events.jsonl", 0)
    failed = [e for e in events if e.kind == Kind.FAILED]
    return str(failed[-1].data["reason"]) if failed else "The training failed; see its log."


def ending(status: int) -> str:
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"
