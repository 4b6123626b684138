"""The job of a run that has ended, written once more, to be trained to the same bits."""

import os
from pathlib import Path

from modelfactory.errors import RunError
from modelfactory.jobs import lines_of, withheld
from modelfactory.models import Run
from modelfactory.selectors import REPEATED
from modelfactory.training.job import Job

LEFT_OUT = {"WITHDRAWN", REPEATED}


def why_not(run: Run) -> str:
    """Why a run cannot be replayed, for people; "" where it can as far as the database knows."""
    if run.kind == Run.Kind.MERGE:
        return "The model is a merge: it was trained on no records of its own."
    if run.parents.exists():
        return "The model was trained further from another one, so its own run is not all of it."
    if run.parsed_recipe.use_dora:
        return "The model was trained with DoRA, whose gradients have no exact derivative."
    if run.base_model is None:
        return "The run names no base model that is here."
    if _withdrawn_since(run):
        return "Records were withdrawn since the run, and nothing is trained on those any more."
    return ""


def write_replay(run: Run, folder: Path) -> None:
    """Write job.json and records.jsonl as they were, without the run's folder or its state.

    Raises RunError (REPLAY) where `why_not` says something.
    """
    if reason := why_not(run):
        raise RunError("REPLAY", reason)
    assert run.base_model is not None
    left_out = {found["record"] for found in run.findings if found["problem"] in LEFT_OUT}
    taken: set[str] = set()
    with (folder / "records.jsonl").open("w", encoding="utf-8") as out:
        for run_version in run.run_versions.select_related("version__datanet"):
            out.writelines(lines_of(run_version, taken, left_out))
    Job(
        base_folder=run.base_model.folder,
        base_name=f"openledger/{run.base_model.slug}",
        recipe=run.recipe,
        device=run.device or "cpu",
        dtype=run.dtype or "float32",
        threads=int(os.environ.get("OMP_NUM_THREADS") or 1),
    ).write(folder)


def _withdrawn_since(run: Run) -> bool:
    then = {found["record"] for found in run.findings if found["problem"] in LEFT_OUT}
    return any(withheld(one.version_id) - then for one in run.run_versions.all())
