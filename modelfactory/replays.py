"""The job of a run that has ended, written once more, to be trained to the same bits."""

import os
from pathlib import Path

from django.db.models import QuerySet

from modelfactory.errors import RunError
from modelfactory.jobs import lines_of, withheld, write_held_out, write_parents
from modelfactory.models import Run, RunParent
from modelfactory.selectors import REPEATED
from modelfactory.training.job import Job

LEFT_OUT = {"WITHDRAWN", REPEATED}


def why_not(run: Run) -> str:
    """Why a run, or one that it began from, cannot be replayed, for people; "" where it can as far
    as the database knows."""
    if run.base_model is None:
        return "The run names no base model that is here."
    if _withdrawn_since(run):
        return "Records were withdrawn since the run, and nothing is trained on those any more."
    reasons = (why_not(parent.model.run) for parent in _parents(run))
    return next((f"Of a model that it was made from: {one}" for one in reasons if one), "")


def write_replay(run: Run, folder: Path) -> None:
    """Write job.json and records.jsonl as they were, without the run's folder or its state; what
    it began from in parents/N, and the same of the run that made it in parents/N/run.

    Raises RunError (REPLAY) where `why_not` says something.
    """
    if reason := why_not(run):
        raise RunError("REPLAY", reason)
    _write(run, folder)


def _write(run: Run, folder: Path) -> None:
    assert run.base_model is not None
    is_merge = run.kind == Run.Kind.MERGE
    if is_merge:
        write_held_out(run, folder)
    else:
        _write_records(run, folder)
    Job(
        base_folder=run.base_model.folder,
        base_name=f"openledger/{run.base_model.slug}",
        recipe=run.recipe,
        device=run.device or "cpu",
        dtype=run.dtype or "float32",
        threads=int(os.environ.get("OMP_NUM_THREADS") or 1),
        parents=tuple(write_parents(run, folder)),
        is_merge=is_merge,
    ).write(folder)
    for number, parent in enumerate(_parents(run)):
        above = folder / "parents" / str(number) / "run"
        above.mkdir()
        _write(parent.model.run, above)


def _write_records(run: Run, folder: Path) -> None:
    left_out = {found["record"] for found in run.findings if found["problem"] in LEFT_OUT}
    taken: set[str] = set()
    with (folder / "records.jsonl").open("w", encoding="utf-8") as out:
        for run_version in run.run_versions.select_related("version__datanet"):
            out.writelines(lines_of(run_version, taken, left_out))


def _parents(run: Run) -> QuerySet[RunParent]:
    return run.parents.select_related("model__run__base_model")


def _withdrawn_since(run: Run) -> bool:
    then = {found["record"] for found in run.findings if found["problem"] in LEFT_OUT}
    return any(withheld(one.version_id) - then for one in run.run_versions.all())
